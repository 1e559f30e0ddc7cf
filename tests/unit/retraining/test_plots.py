"""The curves in the plots of a candidate."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as oracle

from services.retraining import plots
from services.retraining.gates import HeldOut
from tests.unit.retraining import task_models
from tests.unit.retraining.gates.held_out_rows import COUNT, TIMES_MS, declaration, held_out

LABELS = np.array([0, 0, 1, 1], dtype=np.int8)


def test_roc_curve_of_perfect_scores_goes_through_the_corner():
    false_rates, true_rates = plots.roc_curve(LABELS, np.array([0.1, 0.2, 0.8, 0.9]))
    assert list(zip(false_rates, true_rates, strict=True)) == [(0, 0), (0, 0.5), (0, 1), (0.5, 1), (1, 1)]


def test_roc_curve_has_a_bounded_number_of_points():
    labels = np.tile(LABELS, 5000)
    false_rates, true_rates = plots.roc_curve(labels, np.linspace(0, 1, len(labels)))
    assert len(false_rates) == len(true_rates) <= plots.CURVE_POINTS_MAX + 1
    assert (false_rates[-1], true_rates[-1]) == (1, 1)


def test_reliability_curve_has_bins_of_equal_size():
    scores, shares = plots.reliability_curve(np.tile(LABELS, 25), np.tile([0.1, 0.3, 0.5, 0.7], 25))
    assert len(scores) == plots.RELIABILITY_BINS
    assert np.all(np.diff(scores) >= 0)
    assert shares.mean() == 0.5


def test_precision_and_recall_agree_with_scikit_learn():
    scores = np.array([0.9, 0.1, 0.6, 0.4])
    recall, precision = plots.precision_recall_curve(LABELS, scores)
    known_precision, known_recall, _ = oracle.precision_recall_curve(LABELS, scores)
    assert recall.tolist() == known_recall[-2::-1].tolist()
    assert precision.tolist() == pytest.approx(known_precision[-2::-1].tolist())


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("binary", ["importance.png", "classes.png", "segments.png"]),
        ("multiclass", ["importance.png", "classes.png", "segments.png"]),
        ("regression", ["importance.png", "residuals.png", "segments.png"]),
    ],
)
def test_every_task_has_its_plots(task: str, names: list[str], tmp_path: Path):
    outputs, labels = task_models.rows(task, COUNT)
    columns = held_out().columns
    rows = HeldOut(labels, outputs, TIMES_MS, outputs, columns)
    paths = plots.save_all(declaration(task, segments=("shop",)), rows, {"x": 0.1, "y": 0.0}, tmp_path)

    assert [path.name for path in paths] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_segments_have_the_loss_of_both_models():
    rows = held_out(noise=0.0, champion_noise=1.0)
    losses = plots.loss_by_segment(declaration(segments=("shop",)), rows)
    alone = plots.loss_by_segment(declaration(), dataclasses.replace(rows, champion=None))

    assert losses.keys() == {"all", "shop=red", "shop=green", "shop=blue"}
    assert all(own < other for own, other in losses.values())
    assert alone == {"all": [losses["all"][0]]}
