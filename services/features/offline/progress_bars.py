"""Progress of a long command on standard error: bars on a terminal, otherwise a line now and then."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, TaskID

_SHARE = 0.25
"""Without a terminal, a line is printed after each such share of a step."""


class ProgressBars:
    """One bar for each step."""

    def __init__(self) -> None:
        """Use standard error."""
        self._console = Console(stderr=True)
        self._bars = Progress(console=self._console) if self._console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Show the bars until the block ends."""
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop updating the bars."""
        if self._bars:
            self._bars.stop()

    def report(self, step: str, done: int, total: int) -> None:
        """Show how many records of a step are done."""
        if self._bars:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=total)
            self._bars.update(self._tasks[step], completed=done, total=total)
        elif done >= min(total, self._printed.get(step, 0.0) + _SHARE * total):
            self._printed[step] = done
            self._console.print(f"{step}: {done} of {total}", highlight=False)
