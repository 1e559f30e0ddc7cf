"""The page docs/reference/monitoring.md: each table, with the figures before and after."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.monitoring import figures
from bench.monitoring.figures import Measured
from bench.monitoring.table import Table

PATH = Path("docs/reference/monitoring.md")
HEAD = """# What monitoring finds, and what it raises for nothing

`make bench ONLY=monitoring` measures the engine of the drift process on simulated event time and writes
this page. All random numbers have fixed seeds, so the figures depend on the code alone; only rows per
second depend on the machine. *Before* is the code of the commit that a table names, *after* the code of the
last run. `MONITORING_TABLES=false_alarms,delays` runs some of the tables, `MONITORING_SHORT=1` a quarter of
the seeds.
"""


def write(tables: Mapping[str, Table]) -> None:
    """Write the page from the figures that the repository keeps."""
    PATH.write_text(text(tables, figures.read("before"), figures.read("after")))


def text(tables: Mapping[str, Table], before: Mapping[str, Measured], after: Mapping[str, Measured]) -> str:
    """Return the page."""
    known = {name: table for name, table in tables.items() if name in before or name in after}
    parts = [HEAD, "\n".join(_worst(known, before, after))]
    parts += ["\n".join(_table(table, before.get(name), after.get(name))) for name, table in known.items()]
    return "\n".join(parts) + "\n"


def _worst(
    tables: Mapping[str, Table], before: Mapping[str, Measured], after: Mapping[str, Measured]
) -> Iterator[str]:
    """Yield the table of the worst figures."""
    yield "| worst figure | before | after |"
    yield "|---|---|---|"
    found = [
        figures.ratios(tables, {name: each.cases for name, each in kept.items()}) for kept in (before, after)
    ]
    for name in dict.fromkeys([*found[0], *found[1]]):
        cells = (_shown(name, kept.get(name)) for kept in found)
        yield f"| {_words(name)} | {' | '.join(cells)} |"
    yield ""


def _table(table: Table, before: Measured | None, after: Measured | None) -> Iterator[str]:
    """Yield one table with its heading."""
    kept = [each.cases if each else {} for each in (before, after)]
    cases = [name for name in table.cases if any(name in each for each in kept)]
    names = list(dict.fromkeys(name for each in kept for case in each.values() for name in case))
    yield f"## {table.title}"
    yield ""
    yield table.text
    yield f"Before: {_commit(before)}. After: {_commit(after)}."
    yield ""
    yield f"| | {' | '.join(f'{_words(name)}: before | after' for name in names)} |"
    yield f"|---|{'---|---|' * len(names)}"
    for case in cases:
        cells = [_shown(name, each.get(case, {}).get(name)) for name in names for each in kept]
        yield f"| {case} | {' | '.join(cells)} |"
    yield ""


def _commit(measured: Measured | None) -> str:
    return f"`{measured.commit}` of {measured.date}" if measured else "not measured yet"


def _words(name: str) -> str:
    return name.removesuffix("_share").replace("_", " ")


def _shown(name: str, figure: float | None) -> str:
    if figure is None:
        return "-"
    if name.endswith("_share"):
        return f"{figure:.1%}"
    return f"{figure:,.0f}" if figure >= 100 or figure == int(figure) else f"{figure:.3g}"
