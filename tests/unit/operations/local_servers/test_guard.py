import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from services.operations.local_servers import guard


class Process:
    """A process of a table in memory; it ends after ``kills_needed`` kills, or had ended before the first."""

    def __init__(self, pid: int, marks: str | None, *, kills_needed: int = 1, **info: Any) -> None:
        self.pid = pid
        environment = None if marks is None else {guard.VARIABLE: marks}
        self.info = {"environ": environment, "status": psutil.STATUS_RUNNING, **info}
        self.kills = 0
        self.kills_needed = kills_needed

    def kill(self) -> None:
        self.kills += 1
        if self.kills_needed == 0:
            raise psutil.NoSuchProcess(self.pid)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The processes of the machine."""
    processes: list[Process] = []

    def alive(_attributes: list[str]) -> Iterator[Any]:
        return iter([each for each in processes if each.kills < max(each.kills_needed, 1)])

    monkeypatch.setattr(psutil, "process_iter", alive)
    monkeypatch.setattr(guard, "PAUSE_SECONDS", 0)
    return processes


def test_processes_with_the_mark_among_theirs_are_found(table: list[Process]) -> None:
    table += [Process(1, "a"), Process(2, "b a"), Process(3, "ab"), Process(4, ""), Process(5, "b")]
    assert [process.pid for process in guard.marked("a")] == [1, 2]


def test_zombies_and_the_calling_process_are_left_out(table: list[Process]) -> None:
    table += [Process(os.getpid(), "a"), Process(1, "a", status=psutil.STATUS_ZOMBIE)]
    assert guard.marked("a") == []


def test_a_process_whose_environment_cannot_be_read_has_no_mark(table: list[Process]) -> None:
    table += [Process(1, None), Process(2, "a", environ=None)]
    assert guard.marked("a") == []


def test_killing_is_repeated_until_none_is_left(table: list[Process]) -> None:
    table += [Process(1, "a", kills_needed=3), Process(2, "b"), Process(3, "a")]
    guard.kill_marked("a")
    assert [process.kills for process in table] == [3, 0, 1]


def test_a_process_that_ended_first_does_not_stop_the_killing(table: list[Process]) -> None:
    table += [Process(1, "a", kills_needed=0), Process(2, "a")]
    guard.kill_marked("a")
    assert [process.kills for process in table] == [1, 1]


def test_killing_is_bounded(table: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ROUNDS_MAX", 4)
    table += [Process(1, "a", kills_needed=100)]
    guard.kill_marked("a")
    assert table[0].kills == 4
