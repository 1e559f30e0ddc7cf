"""Better, or not worse, than the serving champion on the same rows. Pure."""

import numpy as np

from services.model_registry.gate_results import GateResult, Outcome, result
from services.retraining import evaluation
from services.retraining.evaluation import Numbers
from services.retraining.gates.block_mean import BLOCKS_MIN, BlockMean, blocks_of
from services.retraining.gates.evidence import Evidence, HeldOut
from services.runtime.declaration import Gates, ModelDeclaration

NAME = "champion"


def check(declaration: ModelDeclaration, gates: Gates, evidence: Evidence) -> list[GateResult]:
    """Return the result of the comparison; without a champion it is passed.

    Passed: the candidate's loss is below the champion's by the margin, with a probability of at most
    ``gates.alpha`` that this is chance. Failed: it is not, with the same certainty. Else the data is not
    enough.
    """
    held_out = evidence.held_out
    if held_out.champion is None:
        return [result(NAME, "passed", "no champion serves; there is nothing to compare with")]
    metric = gates.metric_of(declaration.task)
    paired = differences(declaration, metric, held_out)
    found = BlockMean.of(paired, blocks_of(held_out.event_times_ms, gates.block_ms)) if len(paired) else None
    if found is None or found.rows < gates.minimum_rows:
        return [_too_few(gates, held_out)]
    low, high = found.interval(gates.alpha)
    outcome = _outcome(low, high, -gates.margin)
    numbers = {
        "difference": found.mean,
        "low": low,
        "high": high,
        "margin": gates.margin,
        "blocks": found.blocks,
        "rows": found.rows,
        "standard_error": found.error,
        "degrees_of_freedom": found.freedom,
        "p_value": 1 - found.p_above(-gates.margin),
    }
    return [result(NAME, outcome, _text(outcome, metric, gates, numbers), numbers)]


def differences(declaration: ModelDeclaration, metric: str, held_out: HeldOut) -> Numbers:
    """Return by how much the candidate's loss is above the champion's for each row (n,)."""
    assert held_out.champion is not None, "asked only with a champion"
    own = evaluation.losses(declaration, held_out.outputs, held_out.labels)[metric]
    other = evaluation.losses(declaration, held_out.champion, held_out.labels)[metric]
    return own - other


def _outcome(low: float, high: float, wanted: float) -> Outcome:
    """Return whether the difference is below the wanted one; equal models never are."""
    if high < wanted:
        return "passed"
    return "failed" if low >= wanted or not np.isfinite(low) else "not_enough_data"


def _text(outcome: Outcome, metric: str, gates: Gates, numbers: dict[str, float]) -> str:
    difference = numbers["difference"]
    side = "lower" if difference < 0 else "higher"
    share = f"{1 - 2 * gates.alpha:.0%} interval {numbers['low']:+.4f} to {numbers['high']:+.4f}"
    of = f"{numbers['blocks']:.0f} blocks of {gates.block_hours:g} hours"
    measured = f"{metric} is {abs(difference):.4f} {side} than the champion's ({share}, {of})"
    wanted = f"better by {gates.margin:g}" if gates.margin >= 0 else f"not worse by {-gates.margin:g}"
    if outcome == "passed":
        return f"{measured}: {wanted}"
    if outcome == "failed":
        return f"{measured}: not {wanted}" if gates.margin >= 0 else f"{measured}: worse by {-gates.margin:g}"
    return (
        f"{measured}; whether it is {wanted} stays open: raise retraining.holdout_days or lower gates.margin"
    )


def _too_few(gates: Gates, held_out: HeldOut) -> GateResult:
    rows = len(held_out.labels)
    blocks = len(set(blocks_of(held_out.event_times_ms, gates.block_ms).tolist()))
    text = (
        f"{rows} held-out rows in {blocks} blocks of {gates.block_hours:g} hours, but a comparison needs "
        f"{gates.minimum_rows} rows and {BLOCKS_MIN} blocks: raise retraining.holdout_days"
    )
    return result(NAME, "not_enough_data", text, {"rows": rows, "blocks": blocks})
