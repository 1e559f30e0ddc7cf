"""Runs the tables and stores their figures.

``MONITORING_TABLES=false_alarms,delays`` runs some of the tables, ``MONITORING_SHORT=1`` takes a quarter of
the seeds, ``MONITORING_PROCESSES`` is the number of processes, 2 by default. A run of all tables with all
seeds writes its figures into the repository and onto the page; ``MONITORING_KEEP=after`` does that for some
tables, ``MONITORING_KEEP=before`` stores the figures to compare with, ``MONITORING_KEEP=none`` writes no file
but ``.bench/monitoring.json``.
"""

import concurrent.futures
import os
import subprocess
import sys
from collections.abc import Callable, Mapping

from bench import report
from bench.monitoring import delays, false_alarms, figures, harm, page, retrainings, speed, standing
from bench.monitoring.table import Table
from bench.report import Figures

TABLES: Mapping[str, Callable[[], Table]] = {
    "false_alarms": false_alarms.table,
    "delays": delays.table,
    "standing": standing.table,
    "retrainings": retrainings.table,
    "harm": harm.table,
    "speed": speed.table,
}
PROCESSES = 2


def main() -> None:
    """Run the chosen tables, report, and store what is to be kept."""
    chosen = os.environ.get("MONITORING_TABLES", "").replace(",", " ").split() or list(TABLES)
    if unknown := [name for name in chosen if name not in TABLES]:
        sys.exit(f"bench: no table {', '.join(unknown)}; known tables: {', '.join(TABLES)}")
    is_short = bool(os.environ.get("MONITORING_SHORT"))
    is_whole = not is_short and len(chosen) == len(TABLES)
    tables = {name: TABLES[name]() for name in chosen}
    measured = _measured(tables, is_short=is_short)
    keep = os.environ.get("MONITORING_KEEP", "after" if is_whole else "none")
    if keep != "none":
        commit, date = _commit()
        figures.write(keep, {name: figures.Measured(commit, date, cases) for name, cases in measured.items()})
        page.write({name: make() for name, make in TABLES.items()})
    report.write_measures(
        "monitoring",
        {tables[name].title: cases for name, cases in measured.items()},
        figures.ratios(tables, measured),
        "a quick look, with a quarter of the seeds" if is_short else "false alarms, delays and cost",
    )


def _measured(tables: Mapping[str, Table], *, is_short: bool) -> dict[str, dict[str, Figures]]:
    """Measure the cases side by side in some processes, then alone those that depend on the machine."""
    os.environ["OMP_NUM_THREADS"] = "1"
    runs: dict[tuple[str, str], list[Figures]] = {}
    workers = int(os.environ.get("MONITORING_PROCESSES", PROCESSES))
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        waiting = {
            pool.submit(case.measure, seed): (table_name, name, seed)
            for table_name, table in tables.items()
            if not table.depends_on_machine
            for name, case in table.cases.items()
            for seed in case.seeds_of(is_short=is_short)
        }
        found = {waiting[done]: done.result() for done in concurrent.futures.as_completed(waiting)}
    for (table_name, name, _), each in sorted(found.items(), key=lambda entry: entry[0][2]):
        runs.setdefault((table_name, name), []).append(each)
    for table_name, table in tables.items():
        if table.depends_on_machine:
            runs |= {(table_name, name): [case.measure(0)] for name, case in table.cases.items()}
    return {
        table_name: {name: table.summarize(runs[table_name, name]) for name in table.cases}
        for table_name, table in tables.items()
    }


def _commit() -> tuple[str, str]:
    """Return the last commit that changed the code that is measured, and its date."""
    command = ["git", "log", "-1", "--format=%h %cs", "--", "services", "streams"]
    commit, date = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return commit, date
