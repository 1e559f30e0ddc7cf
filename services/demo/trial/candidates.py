"""The candidates of the trial, and the folder of models with which it runs."""

import dataclasses
import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from services.demo import months
from services.demo.trial import fields
from services.runtime.declaration import FILE

MODEL, LEAKING_MODEL = "arrival_delay", "arrival_delay_leaking"
START_MS = months.local_midnight_ms(dt.date(months.YEAR, 1, 18))
"""The first request: two weeks of rows are enough for the first model."""
JUDGED_MS = months.local_midnight_ms(dt.date(months.YEAR, 2, 8))
"""The time of the requests: the held-out days are then days that the champion was not trained on."""
UNTIL_MS = months.local_midnight_ms(dt.date(months.YEAR, 2, 14))
HOLDOUT_DAYS = 5
_ESTIMATORS = Path(__file__).parent / "estimators"
_CODE = "training.py"
_SCHEMA = {fields.FORECAST: "float?"}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One candidate, and what should stop it."""

    name: str
    code: str | None
    """The file below ``estimators/`` that trains it; None: that of the flights' model."""
    gate: str | None
    """How the name of the gate begins that should refuse it; None: all pass it, and the rollout ends it."""
    model: str = MODEL


LEAKING = Candidate("leaking", None, "leakage", LEAKING_MODEL)
"""It has its own model: a field that leaks stays in all rows of a model."""
JUDGED = (
    Candidate("shuffled labels", "shuffled_labels.py", "champion"),
    Candidate("unfair", "unfair.py", "fairness origin"),
    Candidate("slow", "slow.py", "latency"),
    Candidate("worse live", None, None),
)
"""The candidates, in the order of their requests."""
CHAMPION_CODE = "without_forecast.py"


def write_models(source: Path, folder: Path) -> None:
    """Write the models of the trial: those of the demo, with gates and a rollout, and one that leaks.

    Args:
        source: The folder of the demo's models.
        folder: It is created.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / MODEL / FILE
    changed = _changed(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    _write(path, changed)
    shutil.copytree(folder / MODEL, folder / LEAKING_MODEL)
    _write(folder / LEAKING_MODEL / FILE, _leaking(changed))
    set_code(folder, Candidate("champion", CHAMPION_CODE, None))


def set_code(folder: Path, candidate: Candidate) -> None:
    """Make the training code of a candidate that of its model, in one step."""
    # the leaking model keeps the code of the flights' model
    code = folder / LEAKING_MODEL / _CODE if candidate.code is None else _ESTIMATORS / candidate.code
    part = folder / f"{candidate.model}.part"
    shutil.copyfile(code, part)
    part.replace(folder / candidate.model / _CODE)


def _changed(declared: dict[str, Any]) -> dict[str, Any]:
    """Return the declaration with the forecast, with gates for groups and calls, and with a rollout."""
    return declared | {
        "request": _with_fields(declared["request"], _SCHEMA),
        "features": _with_inputs(declared["features"], _SCHEMA),
        "retraining": declared["retraining"] | {"holdout_days": HOLDOUT_DAYS},
        "gates": declared["gates"]
        | {
            "fairness": {
                "groups": ["origin"],
                "equal_opportunity_max": 0.2,
                "demographic_parity_max": None,
            },
            "latency": {"p50_ratio_max": 2.0},
            "block_hours": 12,
        },
        "rollout": {
            "steps": [{"share": "20%", "minimum_hours": 24}, {"share": "50%"}],
            "guardrails": {"loss": {"margin": 0.05}, "latency": None},
            "block_hours": 6,
        },
    }


def _leaking(changed: dict[str, Any]) -> dict[str, Any]:
    """Return the declaration of the model that is given the field which leaks; it never serves."""
    schema = {fields.CODE: "float?"}
    return {name: section for name, section in changed.items() if name != "rollout"} | {
        "name": LEAKING_MODEL,
        "request": _with_fields(changed["request"], schema),
        "features": _with_inputs(changed["features"], schema),
    }


def _with_fields(request: dict[str, Any], added: dict[str, str]) -> dict[str, Any]:
    return request | {"schema": request["schema"] | added}


def _with_inputs(features: dict[str, Any], added: dict[str, str]) -> dict[str, Any]:
    return features | {"from_request": [*features["from_request"], *added]}


def _write(path: Path, declared: dict[str, Any]) -> None:
    """Write a declaration as JSON, which is YAML."""
    path.write_text(json.dumps(declared, indent=2))
