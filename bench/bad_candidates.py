"""Candidates that must not become champion, trained for real: each is stopped by its gate.

A part of ``make bench ONLY=gates``. All candidates see the same simulated rows; the champion lacks a feature.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.report import Figures
from services.model_registry.model_inputs import Columns
from services.retraining import call_sample, validation
from services.retraining.evaluation import Numbers
from services.retraining.gates import Evidence, HeldOut, judge
from services.retraining.training_set import DataVersion, TrainingSet
from services.runtime.declaration import DAY_MS, FairnessGate, Gates, LatencyGate, ModelDeclaration

SEEDS = 5
DAYS, ROWS_A_DAY, HELD_OUT_DAYS = 42, 870, 14
FEATURES = ["x", "y", "z", "region"]
STOPPED_BY = {
    "shuffled labels": "champion",
    "leaking feature": "leakage",
    "unfair to a region": "fairness region equal_opportunity",
    "slow": "latency",
}


@dataclasses.dataclass(frozen=True)
class EstimatorModel:
    """A fitted estimator as the gates call it."""

    estimator: Any
    names: list[str]
    size_bytes: int = 0

    def predict(self, columns: Columns) -> Numbers:
        """Return the probability of label 1 for each row (n,)."""
        frame = pd.DataFrame({name: columns[name] for name in self.names})
        found: Numbers = self.estimator.predict_proba(frame)[:, 1]
        return found


def measure(base: ModelDeclaration) -> tuple[dict[str, dict[str, Figures]], dict[str, float]]:
    """Return how often each candidate is stopped, and by its own gate; the ratio is the smallest share."""
    gates = Gates(
        floor=1,
        fairness=FairnessGate(groups=("region",)),
        latency=LatencyGate(),
    )
    features = base.features.model_copy(update={"from_request": tuple(FEATURES)})
    declaration = base.model_copy(update={"gates": gates, "features": features})
    found: dict[str, dict[str, Figures]] = {}
    for name in ("sound", *STOPPED_BY):
        refusing = [_refusing(declaration, name, seed) for seed in range(SEEDS)]
        shares = {"refused": float(np.mean([bool(each) for each in refusing]))}
        if name in STOPPED_BY:
            shares["by_its_gate"] = float(np.mean([STOPPED_BY[name] in each for each in refusing]))
        found[f"candidate: {name}"] = {"gate": shares}
    stopped = min(each["gate"]["by_its_gate"] for each in found.values() if "by_its_gate" in each["gate"])
    return found, {"bad_candidates_stopped": stopped}


def _refusing(declaration: ModelDeclaration, name: str, seed: int) -> set[str]:
    """Return the names of the gates that refuse a candidate."""
    frame, labels = _rows(seed)
    late = np.arange(len(labels)) >= (DAYS - HELD_OUT_DAYS) * ROWS_A_DAY
    names = [*FEATURES, "refunded"] if name == "leaking feature" else FEATURES
    candidate = EstimatorModel(_fitted(name, frame.loc[~late, names], labels[~late], seed), names)
    champion = EstimatorModel(_fitted("sound", frame.loc[~late, ["x", "y"]], labels[~late], seed), ["x", "y"])
    columns = {each: frame.loc[late, each].to_numpy() for each in frame.columns}
    own, other = call_sample.measure(candidate, champion, columns)
    times_ms = np.arange(len(labels), dtype=np.int64) * (DAY_MS // ROWS_A_DAY)
    checked = validation.check(
        _training_set(frame[names], labels, times_ms), declaration, int(times_ms[-1]) + 1
    )
    held_out = HeldOut(
        labels[late],
        candidate.predict(columns),
        times_ms[late],
        champion.predict(columns),
        {"region": columns["region"].astype(str).astype(object)},
    )
    evidence = Evidence(held_out, leaks=checked.leaks, calls=own, champion_calls=other)
    return {each.name for each in judge(declaration, evidence).refusing}


def _rows(seed: int) -> tuple[pd.DataFrame, Numbers]:
    random = np.random.default_rng([seed, 40])
    count = DAYS * ROWS_A_DAY
    x, y, z = random.normal(size=(3, count))
    storms = np.repeat(0.5 * random.normal(size=DAYS), ROWS_A_DAY)
    labels = (random.random(count) < 1 / (1 + np.exp(-(x + y + z + storms)))).astype(np.float64)
    region = random.integers(0, 2, count).astype(np.float64)
    refunded = labels + 0.3 * random.normal(size=count) * (random.random(count) < 0.5)
    return pd.DataFrame({"x": x, "y": y, "z": z, "region": region, "refunded": refunded}), labels


def _fitted(name: str, features: pd.DataFrame, labels: Numbers, seed: int) -> Any:
    random = np.random.default_rng([seed, 41])
    if name == "shuffled labels":
        labels = random.permutation(labels)
    elif name == "unfair to a region":
        unseen = (features["region"].to_numpy() == 1) & (random.random(len(labels)) < 0.6)
        labels = np.where(unseen, 0.0, labels)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    trees = ExtraTreesClassifier(300, max_depth=8, random_state=seed)
    return (trees if name == "slow" else linear).fit(features, labels)


def _training_set(features: pd.DataFrame, labels: Numbers, times_ms: Any) -> TrainingSet:
    ids = [f"p{row}" for row in range(len(labels))]
    rows = pd.DataFrame(
        {"prediction_id": ids, "event_time_ms": times_ms, "label_time_ms": times_ms, "label": labels}
    )
    version = DataVersion({}, "", len(rows), int(times_ms[0]), int(times_ms[-1]))
    return TrainingSet(rows=rows, features=features, text=[], version=version)
