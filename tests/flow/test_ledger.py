"""Processes that write the ledger at the same time and are killed: one chain, and each entry once."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.model_registry import ledger
from services.runtime.settings import ROOT, Settings
from services.runtime.topic_creation import ensure_topics
from tests.waiting import LIVENESS_SECONDS

ENTRIES = 8
WRITERS = ("ada", "bob", "eve")


class Writers:
    """Processes of ``tests/workers/ledger_writer.py``."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._environment = settings.environment()
        self._model = model
        self.running: list[subprocess.Popen[str]] = []

    def start(self, name: str) -> subprocess.Popen[str]:
        worker = str(ROOT / "tests" / "workers" / "ledger_writer.py")
        command = [sys.executable, worker, self._model, name, str(ENTRIES)]
        environment = {**self._environment, "PYTHONPATH": str(ROOT)}
        started = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, bufsize=1
        )
        self.running.append(started)
        return started


@pytest.fixture
def writers(settings: Settings, unique_name: str) -> Iterator[Writers]:
    ensure_topics(settings, {})
    made = Writers(settings, unique_name)
    yield made
    for process in made.running:
        process.kill()
        process.wait(LIVENESS_SECONDS)
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("killed_after", [0, 3])
def test_killed_and_concurrent_writers_give_one_chain(
    settings: Settings, writers: Writers, unique_name: str, killed_after: int
) -> None:
    """Two of three writers are killed after some entries, at any point of the next one, and start again."""
    with ledger.opened(settings) as before:
        faults = len(before.chain.faults)
    victims = [writers.start(name) for name in WRITERS[:2]]
    others = [writers.start(WRITERS[2])]
    for victim in victims:
        assert victim.stdout is not None
        for _ in range(killed_after):
            assert victim.stdout.readline()
        victim.kill()
        victim.wait(LIVENESS_SECONDS)
    others += [writers.start(name) for name in WRITERS[:2]]
    assert [process.wait(LIVENESS_SECONDS) for process in others] == [0, 0, 0]

    with ledger.opened(settings) as found:
        ours = [entry for entry in found.entries if entry.model == unique_name]
        assert len(found.chain.faults) == faults
    for name in WRITERS:
        steps = [entry.entry_id for entry in ours if entry.actor == name]
        assert steps == [f"{unique_name}-{name}/gate/{number}" for number in range(ENTRIES)]
