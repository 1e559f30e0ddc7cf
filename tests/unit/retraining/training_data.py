"""Declarations, requests and training sets for the tests of this folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from services.retraining.training_set import DataVersion, TrainingSet
from services.runtime.declaration import DAY_MS, Gates, ModelDeclaration, Retraining
from services.runtime.declaration_file import load
from streams import records

NOW_MS = 1_700_000_000_000
_GIVEN: ModelDeclaration = load(Path(__file__).parents[3] / "models" / "arrival_delay" / "model.yaml")
DECLARATION = _GIVEN.model_copy(
    update={
        "retraining": Retraining(cooldown_days=14, holdout_days=7, effective_after_hours=6),
        "gates": Gates(floor=0.75, margin=-0.002),
    }
)
"""What the model's owner tunes is fixed here."""


def declaration(section: str = "retraining", **changes: Any) -> ModelDeclaration:
    """Return arrival_delay's declaration with changes in one section."""
    changed = getattr(DECLARATION, section).model_copy(update=changes)
    return DECLARATION.model_copy(update={section: changed})


def request(
    request_id: str = "r1", trigger: records.Trigger = "drift", at_ms: int = NOW_MS
) -> records.RetrainingRequested:
    return records.RetrainingRequested(
        request_id=request_id,
        model="arrival_delay",
        trigger=trigger,
        requested_at_ms=at_ms,
        reason="drift in x",
    )


def training_set(rows: int = 1000, *, text: Sequence[str] = ("colour",), seed: int = 1) -> TrainingSet:
    """Rows over ten days whose label follows x."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=rows)
    times = NOW_MS - 11 * DAY_MS + np.arange(rows, dtype=np.int64) * (10 * DAY_MS // rows)
    labels = (chance.random(rows) < 1 / (1 + np.exp(-2 * x))).astype(float)
    return TrainingSet(
        rows=pd.DataFrame(
            {
                "prediction_id": [f"p{index}" for index in range(rows)],
                "event_time_ms": times,
                "label_time_ms": times + 60_000,
                "label": labels,
            }
        ),
        features=pd.DataFrame(
            {"x": x, "colour": chance.choice(np.array(["red", "green", None], dtype=object), rows)}
        ),
        text=list(text),
        version=DataVersion({"predictions": 1, "outcomes": 1}, "0" * 64, rows, int(times[0]), int(times[-1])),
    )
