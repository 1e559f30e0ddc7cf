"""Prints the results of a benchmark as a table and stores them as JSON."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path(".bench")

Figures = Mapping[str, float]
"""Measured values by name with unit, for example ``p50_ms`` or ``events_per_second``."""


def write(name: str, rates: Mapping[str, float], ratios: Mapping[str, float], unit: str, notes: str) -> None:
    """Print and store one benchmark: the rate of each contender, and how many times as fast Driftline is."""
    table = Table(title=f"bench {name}: {notes}")
    table.add_column("contender")
    table.add_column(unit, justify="right")
    table.add_column("driftline is … times as fast", justify="right")
    for contender, rate in rates.items():
        ratio = ratios.get(contender)
        table.add_row(contender, f"{rate:,.0f}", f"{ratio:.2f}" if ratio else "")
    _keep(name, table, {"rates": dict(rates), "ratios": dict(ratios), "unit": unit, "notes": notes})


def write_measures(
    name: str, measures: Mapping[str, Mapping[str, Figures]], ratios: Mapping[str, float], notes: str
) -> None:
    """Print and store several measures of one benchmark: figures by contender, and one ratio per measure."""
    table = Table(title=f"bench {name}: {notes}")
    for heading in ("measure", "contender", "figures", "driftline is … times as fast"):
        table.add_column(heading, justify="right" if "…" in heading else "left")
    for measure, contenders in measures.items():
        for contender, figures in contenders.items():
            shown = "  ".join(f"{figure} {value:,.3g}" for figure, value in figures.items())
            first = contender == next(iter(contenders))
            ratio = f"{ratios[measure]:.2f}" if first and measure in ratios else ""
            table.add_row(measure, contender, shown, ratio)
        table.add_section()
    _keep(name, table, {"measures": measures, "ratios": dict(ratios), "notes": notes})


def _keep(name: str, table: Table, result: Mapping[str, object]) -> None:
    Console(width=110).print(table)
    FOLDER.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    (FOLDER / f"{name}.json").write_text(json.dumps({**result, "machine": machine}, indent=2) + "\n")
