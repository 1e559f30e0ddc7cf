"""The held-out rows of a run, and what was measured of them, as files of the run folder."""

from typing import Any

import msgspec
import numpy as np

from services.retraining.evaluation import Numbers
from services.retraining.gates import HeldOut
from services.retraining.run_folder import HELD_OUT, RunFolder
from services.retraining.training_set import DataDigest


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The measures of a candidate and of the champion on the held-out rows."""

    metrics: dict[str, float]
    champion: dict[str, float] | None = None
    """None without a champion."""
    champion_version: int | None = None
    importances: dict[str, float] = {}
    """Importance by feature, see `permutation_importance.of_features`."""
    held_out_rows: int
    outputs_sha256: str
    """Digest of the candidate's outputs: a training that is reproduced has the same."""

    def named(self) -> dict[str, float]:
        """Return all measures, the champion's with the prefix ``champion_``."""
        champion = self.champion or {}
        return self.metrics | {f"champion_{name}": value for name, value in champion.items()}


def digest_of(outputs: Numbers) -> str:
    """Return the digest of outputs (n,) or (n, n_classes)."""
    digest = DataDigest()
    digest.add("outputs", outputs.ravel())
    return digest.hexdigest()


def write(run: RunFolder, rows: HeldOut) -> None:
    """Write the held-out rows to their file, without columns of features, which the training set has."""
    found: dict[str, Any] = {
        "labels": rows.labels,
        "outputs": rows.outputs,
        "event_times_ms": rows.event_times_ms,
    }
    champion: dict[str, Any] = {} if rows.champion is None else {"champion": rows.champion}
    with run.begin(HELD_OUT).open("wb") as file:
        np.savez(file, **found, **champion)
    run.finish(HELD_OUT)


def read(run: RunFolder) -> HeldOut:
    """Read the held-out rows."""
    with np.load(run.path / HELD_OUT, allow_pickle=False) as found:
        return HeldOut(**{name: found[name] for name in found.files})
