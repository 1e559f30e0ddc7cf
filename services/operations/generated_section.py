"""Sections of documentation pages that are made from the code.

Two HTML comments enclose such a section; the first names the command that makes it. A test fails when a
section is out of date.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class GeneratedSection:
    """One section of one page."""

    name: str
    page: Path
    command: str
    """Arguments of ``python`` that write the section again."""
    make: Callable[[], str]

    @property
    def begin(self) -> str:
        """The line before the section."""
        return f"<!-- {self.name}: begin, made by python {self.command} -->"

    @property
    def end(self) -> str:
        """The line after the section."""
        return f"<!-- {self.name}: end -->"

    def replaced_in(self, text: str) -> str:
        """Return a page's text with this section made again; ValueError if the page has no such section."""
        before, begin, rest = text.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not begin or not end:
            raise ValueError(f"the page needs the lines {self.begin} and {self.end}, in this order")
        return f"{before}{self.begin}\n{self.make()}\n{self.end}{after}"

    def is_current(self) -> bool:
        """Tell whether the page contains what the code says now."""
        text = self.page.read_text(encoding="utf-8")
        return text == self.replaced_in(text)

    def write(self) -> None:
        """Make the section again in its page."""
        self.page.write_text(self.replaced_in(self.page.read_text(encoding="utf-8")), encoding="utf-8")
