"""The figures that the repository keeps: those before, to compare with, and the latest ones."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.monitoring.table import Table
from bench.report import Figures

FOLDER = Path(__file__).parent / "figures"


class Measured(msgspec.Struct):
    """The figures of one table, by case, and the commit of the measured code."""

    commit: str
    date: str
    cases: Mapping[str, Mapping[str, float]]


def read(when: str) -> dict[str, Measured]:
    """Return the tables that are kept as ``before`` or ``after``; none if there is no file."""
    path = FOLDER / f"{when}.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Measured]) if path.exists() else {}


def write(when: str, measured: Mapping[str, Measured]) -> None:
    """Keep these tables; others stay as they are."""
    FOLDER.mkdir(exist_ok=True)
    encoded = msgspec.json.encode({**read(when), **measured})
    (FOLDER / f"{when}.json").write_bytes(msgspec.json.format(encoded) + b"\n")


def ratios(tables: Mapping[str, Table], measured: Mapping[str, Mapping[str, Figures]]) -> dict[str, float]:
    """Return the worst figures of the tables, by the name of the ratio."""
    return {
        name: worst.of(measured[table_name])
        for table_name, table in tables.items()
        if table_name in measured
        for name, worst in table.worst.items()
    }
