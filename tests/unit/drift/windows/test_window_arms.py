"""The arms of a window, and the shadows of its predictions."""

import math

import pytest

from services.drift.windows.arm_sums import ArmKey
from services.drift.windows.window_arms import ARMS_MAX, OTHERS, WindowArms, shadow_values
from services.monitoring.model_metrics import Measures
from services.monitoring.pending_predictions import PendingPrediction
from services.runtime.declaration import ModelDeclaration
from tests.unit.drift.scenario import document


def test_a_shadow_of_a_multiclass_model_has_the_measures_of_its_probabilities():
    declared = document()
    declared["task"], declared["classes"] = "multiclass", ["early", "on time", "late"]
    del declared["label"]["positive_above"], declared["gates"], declared["retraining"]
    declared["label"]["schema"]["y"] = "string"
    measures = Measures(ModelDeclaration.model_validate(declared))
    entry = PendingPrediction(
        "p", 0, 0, 1, "champion", 0.5, 1.0, {"quiet": 0.7, "older": 0.6, "other": 0.4},
        shadow_versions={"quiet": 3},
        shadow_probabilities={"quiet": [0.7, 0.2, 0.1], "other": [0.6, 0.4]},
    )  # fmt: skip
    found = shadow_values(entry, 1.0, measures)
    assert found == {ArmKey("quiet", 3, shadow=True): [pytest.approx(-math.log(0.2)), 0.0]}


def test_arms_after_the_maximum_share_an_entry():
    arms = WindowArms([])
    for version in range(1, ARMS_MAX + 5):
        arms.of(ArmKey("champion", version)).count(0, 1)
    states = arms.states()
    assert len(states) == ARMS_MAX + 1
    assert [each.predictions for each in states if ArmKey(each.arm, each.version) == OTHERS] == [4]
