"""Prints the result of one part as a table and keeps it as JSON."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path(".bench")


def write(name: str, rates: Mapping[str, float], ratios: Mapping[str, float], unit: str, notes: str) -> None:
    """Show and keep what one part measured: rates by contender, and how many times each of them we are."""
    table = Table(title=f"bench {name}: {notes}")
    table.add_column("contender")
    table.add_column(unit, justify="right")
    table.add_column("driftline is … times as fast", justify="right")
    for contender, rate in rates.items():
        ratio = ratios.get(contender)
        table.add_row(contender, f"{rate:,.0f}", f"{ratio:.2f}" if ratio else "")
    Console(width=110).print(table)
    FOLDER.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    result = {"rates": dict(rates), "ratios": dict(ratios), "unit": unit, "notes": notes, "machine": machine}
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
