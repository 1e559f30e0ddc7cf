"""A process that outlives its parent by a moment, in order to end everything that the parent started.

It runs as a script, ``python -P guard.py MARK``. Its standard input is a pipe whose other end only the
parent holds: the end of the file means that the parent is gone, however it went. Then the guard kills
every process whose environment carries the mark.

Why not ``PR_SET_PDEATHSIG``: it fires when the *thread* that spawned the child ends, it reaches no
grandchildren, and it exists on Linux only. The environment is inherited by children of children, also by
those that start a session of their own, so nothing escapes but a process that clears its environment.
"""

import os
import signal
import sys
import time

import psutil

VARIABLE = "DRIFTLINE_SUPERVISORS"
"""Environment variable with the marks of all supervisors above a process, separated by spaces."""

ROUNDS_MAX = 200
PAUSE_SECONDS = 0.02


def main() -> None:
    """Wait until the parent has ended, then end all its descendants."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the parent's end ends the guard
    while os.read(sys.stdin.fileno(), 1):
        pass
    kill_marked(sys.argv[1])


def kill_marked(mark: str) -> None:
    """Kill all processes with the mark; repeat until none is left: a process may fork during a pass."""
    for _ in range(ROUNDS_MAX):
        found = marked(mark)
        if not found:
            return
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(PAUSE_SECONDS)


def marked(mark: str) -> list[psutil.Process]:
    """Find the processes that carry the mark, without the calling one and without the dead."""
    own = os.getpid()
    return [
        process
        for process in psutil.process_iter(["environ", "status"])
        if process.pid != own
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and mark in (process.info["environ"] or {}).get(VARIABLE, "").split()
    ]


if __name__ == "__main__":
    main()
