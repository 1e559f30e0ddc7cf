import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from services.runtime.logs import configure_logging, to_standard_error


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Keep the configuration of this process as it is."""
    before, level = structlog.get_config(), logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_an_event_is_one_line_of_json_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("scoring", "info")
    structlog.get_logger().info("slice.done", rows=3)
    (event,) = written(capsys)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "slice.done", "level": "info", "rows": 3, "service": "scoring"}


def test_a_command_logs_to_standard_error_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Its result, such as JSON, is on standard output."""
    to_standard_error()
    structlog.get_logger().warning("record_skipped", offset=7)
    out, err = capsys.readouterr()
    assert (out, "record_skipped" in err) == ("", True)


def test_events_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("drift", "warning")
    log = structlog.get_logger()
    log.info("not.shown")
    log.warning("shown")
    assert [event["event"] for event in written(capsys)] == ["shown"]


def test_an_exception_is_in_the_line_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("drift", "info")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("step.failed")
    (event,) = written(capsys)
    assert event["exception"].endswith("ValueError: broken")


@pytest.mark.parametrize(("level", "expected"), [("debug", logging.WARNING), ("error", logging.ERROR)])
def test_libraries_log_from_warnings_on(level: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """basicConfig does nothing while pytest's own handlers are there, so its arguments are checked."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: given.append(options))
    configure_logging("drift", level)
    (options,) = given
    assert (options["level"], options["stream"]) == (expected, sys.stderr)


def test_an_unknown_level_is_an_error() -> None:
    with pytest.raises(KeyError):
        configure_logging("drift", "loud")
