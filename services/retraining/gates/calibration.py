"""Predicted probabilities are near the shares that came true. Pure."""

import math

from services.model_registry.gate_results import GateResult, Outcome, result
from services.retraining import evaluation
from services.retraining.gates.block_mean import BlockMean, blocks_of
from services.retraining.gates.evidence import Evidence
from services.runtime.declaration import Gates, ModelDeclaration

NAME = "calibration"
MEAN_DISTANCE = math.sqrt(2 / math.pi)
"""Mean distance of a normal variable from its mean, in standard deviations."""


def check(_: ModelDeclaration, gates: Gates, evidence: Evidence) -> list[GateResult]:
    """Return the result; none if the gate is not declared.

    The calibration error of a perfect model is above 0 by chance. Failed: it is above the maximum even
    without what chance gives for so many days. Passed: it is not above the maximum.
    """
    declared, held_out = gates.calibration, evidence.held_out
    if declared is None:
        return []
    if len(held_out.labels) < gates.minimum_rows:
        text = f"{len(held_out.labels)} held-out rows, but gates.minimum_rows is {gates.minimum_rows}"
        return [result(NAME, "not_enough_data", f"{text}: wait for labels")]
    scores, came_true = evaluation.certainties(held_out.outputs, held_out.labels)
    error = evaluation.calibration_error(scores, came_true)
    block_of = blocks_of(held_out.event_times_ms, gates.block_ms)
    bins = evaluation.score_bins(scores)
    means = [BlockMean.of(came_true[rows] - scores[rows], block_of[rows]) for rows in bins]
    numbers = {"calibration_error": error, "max": declared.error_max, "rows": len(scores)}
    if any(each is None for each in means):
        text = f"the calibration error is {error:.4f}, on too few days to tell it from chance"
        return [result(NAME, "not_enough_data", f"{text}: raise retraining.holdout_days", numbers)]
    chance = sum(each.rows * each.error * MEAN_DISTANCE for each in means if each is not None) / len(scores)
    outcome: Outcome = "passed" if error <= declared.error_max else "not_enough_data"
    if error - chance > declared.error_max:
        outcome = "failed"
    text = f"the calibration error is {error:.4f}, of which chance alone gives {chance:.4f}; at most "
    text += f"{declared.error_max:g} is allowed"
    return [result(NAME, outcome, text, numbers | {"chance": chance})]
