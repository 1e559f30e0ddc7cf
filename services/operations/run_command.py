"""``driftline run``: the processes of an installation together, until Ctrl-C."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.operations.installation_processes import ProcessName, launch, needed
from services.operations.local_servers.supervisor import Child, Supervisor, SupervisorError, stoppable
from services.runtime.command_output import fail, say
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings

LOOK_SECONDS = 0.2
STOP_SECONDS = 30.0
"""Maximum time for all processes to finish what they have begun; then they are killed."""
READ_BYTES_MAX = 1 << 20
"""Maximum of a log that is printed at once, so that one process cannot hold up the others."""


def run(*processes: ProcessName) -> None:
    """Run the processes that the declared models need, or only those that are named, until Ctrl-C.

    Each line of a log is printed with the name of its process. If a process ends by itself, the others are
    stopped, the end of its log is printed, and the exit code is 1. Call driftline setup once before.

    Args:
        processes: Only these.
    """
    settings = Settings()
    try:
        models = load_all(settings.models)
    except DeclarationError as error:
        fail(*str(error).splitlines(), "driftline run: try 'driftline check'")
    has_destinations = bool(
        settings.alert_destinations_file or settings.alert_destinations.get_secret_value()
    )
    names = tuple(dict.fromkeys(processes)) or needed(models, has_destinations=has_destinations)
    logs = settings.home.resolve() / "logs"
    say(f"running {', '.join(names)}; logs: {logs}; use CTRL+C to close")
    if faults := _supervise(names, settings, logs):
        fail(*faults)


def _supervise(names: Sequence[str], settings: Settings, logs: Path) -> list[str]:
    """Run the processes until a signal; return why they did not run or end as they should."""
    width = max(map(len, names))
    followed: list[tuple[Child, LogReader]] = []
    faults = []
    try:
        with stoppable(), Supervisor(STOP_SECONDS) as supervisor:
            for name in names:
                child = supervisor.start(launch(name, settings, logs))
                followed.append((child, LogReader(child.launch.log, f"{name:<{width}} | ")))
            _follow(supervisor, followed, settings)
    except KeyboardInterrupt:
        ended = [(child.name, child.exit_code) for child, _ in followed]
        faults = [f"driftline run: {name} ended with exit code {code}" for name, code in ended if code]
    except SupervisorError as error:
        faults = [f"driftline run: {error}"]
    for _, log in followed:
        say(*log.lines())
    if not faults:
        say("all processes have ended")
    return faults


def _follow(
    supervisor: Supervisor, followed: Sequence[tuple[Child, "LogReader"]], settings: Settings
) -> None:
    """Print what the processes log, and when each is ready; raise `ChildDiedError` if one ends."""
    waiting = [child for child, _ in followed]
    while True:
        for _, log in followed:
            if lines := list(log.lines()):
                say(*lines)
        supervisor.check()
        for child in [child for child in waiting if child.launch.ready()]:
            waiting.remove(child)
            address = f"http://{settings.host}:{getattr(settings, f'{child.name}_port')}"
            say(f"{child.name} is ready at {address}" + ("" if waiting else "; all are ready"))
        time.sleep(LOOK_SECONDS)


class LogReader:
    """Reads the lines that are added to a file."""

    def __init__(self, path: Path, prefix: str) -> None:
        """Begin at the start of the file, which need not exist yet."""
        self._path = path
        self._prefix = prefix
        self._position = 0

    def lines(self) -> Iterator[str]:
        """Yield the complete lines since the last call, each with the prefix."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            added = file.read(READ_BYTES_MAX)
        end = added.rfind(b"\n") + 1 or (len(added) if len(added) == READ_BYTES_MAX else 0)
        self._position += end
        for line in added[:end].decode(errors="replace").splitlines():
            yield f"{self._prefix}{line}"
