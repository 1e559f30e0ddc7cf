"""The held-out rows are the same after they were written and read."""

from pathlib import Path

import numpy as np
import pytest

from services.retraining import evidence
from services.retraining.evaluation import Numbers
from services.retraining.evidence import Evaluation
from services.retraining.gates import HeldOut
from services.retraining.run_folder import RunFolder

LABELS, TIMES = np.array([0.0, 1.0]), np.array([1, 2])


@pytest.mark.parametrize("outputs", [np.array([0.1, 0.9]), np.array([[0.1, 0.9], [0.5, 0.5]])])
@pytest.mark.parametrize("has_champion", [True, False])
def test_held_out_rows_are_read_as_they_were_written(
    tmp_path: Path, outputs: Numbers, *, has_champion: bool
) -> None:
    run, champion = RunFolder(tmp_path), outputs * 0.5 if has_champion else None
    rows = HeldOut(labels=LABELS, event_times_ms=TIMES, outputs=outputs, champion=champion)
    evidence.write(run, rows)
    found = evidence.read(run)
    np.testing.assert_array_equal(found.outputs, outputs)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert (found.champion is not None) is has_champion
    assert evidence.digest_of(found.outputs) == evidence.digest_of(outputs)


def test_measures_of_the_champion_have_a_prefix() -> None:
    found = Evaluation(metrics={"auc": 0.7}, champion={"auc": 0.6}, held_out_rows=2, outputs_sha256="")
    assert found.named() == {"auc": 0.7, "champion_auc": 0.6}
    assert Evaluation(metrics={"auc": 0.7}, held_out_rows=2, outputs_sha256="").named() == {"auc": 0.7}
