import http.server
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.operations.local_servers.supervisor import (
    LOG_TAIL_BYTES,
    Child,
    Launch,
    answers_ok,
    inherited,
    stoppable,
)


def child(log: Path) -> Child:
    """Return a child whose process is not asked."""
    process: Any = None
    return Child(Launch("kafka", ["kafka"], log), process)


def test_children_do_not_share_the_metrics_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast sets these variables when it is imported."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/tmp/metrics")
    monkeypatch.setenv("DRIFTLINE_BROKER", "b:1")
    found = inherited()
    assert found["DRIFTLINE_BROKER"] == "b:1"
    assert not [name for name in found if name.startswith("PROMETHEUS_MULTIPROC")]
    assert "PROMETHEUS_MULTIPROC_DIR" in os.environ


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"first\nlast\n", "first\nlast"),
        (b"", "(empty)"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"x" * 10 + b"y" * LOG_TAIL_BYTES, "y" * LOG_TAIL_BYTES),
    ],
)
def test_the_end_of_a_log_is_shown_with_its_file(content: bytes, shown: str, tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_bytes(content)
    assert child(log).log_tail() == f"--- the end of {log}\n{shown}\n---"


def test_a_missing_log_is_no_error(tmp_path: Path) -> None:
    assert "(no log: [Errno 2] No such file or directory" in child(tmp_path / "none.log").log_tail()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers 200 on /ready and 503 elsewhere."""

    def do_GET(self) -> None:  # the name is http.server's
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_is_ready_when_it_answers_200(port: int) -> None:
    assert answers_ok("127.0.0.1", port, "/ready")()
    assert not answers_ok("127.0.0.1", port, "/other")()


def test_a_server_that_does_not_listen_is_not_ready() -> None:
    assert not answers_ok("127.0.0.1", 1, "/ready")()


def test_first_signal_interrupts_and_later_ones_do_not_disturb_the_stopping():
    steps, before = [], signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with stoppable():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("stopped")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["stopped"]
    assert signal.getsignal(signal.SIGTERM) is before
