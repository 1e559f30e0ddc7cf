"""What a table of the measurement is: cases, each measured with some seeds and summed up."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from bench.report import Figures

Measure = Callable[[int], Figures]
"""Measures one case with one seed. It can be pickled: it runs in another process."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of a table."""

    measure: Measure
    seeds: int

    def seeds_of(self, *, is_short: bool) -> range:
        """Return the seeds, a quarter of them for a quick look."""
        return range(max(1, self.seeds // 4) if is_short else self.seeds)


@dataclasses.dataclass(frozen=True)
class Worst:
    """The largest figure of a table, among the cases whose names begin with a text."""

    figure: str
    start: str = ""

    def of(self, cases: Mapping[str, Figures]) -> float:
        """Return it from the figures by case; 0 if there is none."""
        found = (figures for name, figures in cases.items() if name.startswith(self.start))
        return max((figures[self.figure] for figures in found if self.figure in figures), default=0.0)


@dataclasses.dataclass(frozen=True)
class Table:
    """One table: how its cases are measured, and how the page explains it."""

    title: str
    text: str
    """How it was measured, and what the figures mean."""
    cases: Mapping[str, Case]
    summarize: Callable[[Sequence[Figures]], Figures]
    """Returns the figures of one case from those of its seeds."""
    worst: Mapping[str, Worst] = dataclasses.field(default_factory=dict)
    """The ratios of the benchmark that this table gives, by name."""
    depends_on_machine: bool = False
    """Such a table is measured alone, after the others."""
