"""No segment is significantly worse than with the champion. Pure."""

import collections
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from services.model_registry.gate_results import GateResult, result
from services.monitoring.segments import SEGMENTS_MAX
from services.retraining.gates import champion
from services.retraining.gates.block_mean import BlockMean, blocks_of
from services.retraining.gates.evidence import Evidence, HeldOut
from services.runtime.declaration import Gates, ModelDeclaration

NAME = "segments"


def check(declaration: ModelDeclaration, gates: Gates, evidence: Evidence) -> list[GateResult]:
    """Return one result for all segments; none if the gate is not declared or no champion serves.

    Failed: the loss of a segment is above the champion's by more than the tolerance, with a probability of
    at most ``gates.alpha`` that one of them is by chance.
    """
    held_out, declared = evidence.held_out, gates.segments
    if declared is None or held_out.champion is None:
        return []
    paired = champion.differences(declaration, gates.metric_of(declaration.task), held_out)
    block_of = blocks_of(held_out.event_times_ms, gates.block_ms)
    means = {
        name: found
        for name, inside in segments_of(held_out, declaration.monitoring.segments)
        if np.count_nonzero(inside) >= declared.minimum_rows
        and (found := BlockMean.of(paired[inside], block_of[inside])) is not None
    }
    if not means:
        text = f"no segment has {declared.minimum_rows} held-out rows on enough days"
        return [result(NAME, "not_enough_data", f"{text}: raise retraining.holdout_days")]
    p_values = holm({name: each.p_above(declared.tolerance) for name, each in means.items()})
    worse = {name: means[name].mean for name, p_value in p_values.items() if p_value <= gates.alpha}
    numbers = {f"difference {name}": each.mean for name, each in means.items()}
    numbers |= {f"p_value {name}": p_value for name, p_value in p_values.items()}
    if worse:
        listed = ", ".join(f"{name} by {difference:.4f}" for name, difference in sorted(worse.items()))
        text = f"the loss is above the champion's by more than {declared.tolerance:g} in {listed}"
        return [result(NAME, "failed", text, numbers)]
    text = f"no segment of {len(means)} is surely worse than the champion by more than {declared.tolerance:g}"
    return [result(NAME, "passed", text, numbers)]


def segments_of(held_out: HeldOut, declared: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield the most frequent values of the declared features, as ``origin=EWR``, and their rows (n,)."""
    for feature in declared:
        column = held_out.columns.get(feature)
        if column is not None:
            counts = collections.Counter(value for value in column.tolist() if value is not None)
            for value, _ in counts.most_common(SEGMENTS_MAX // len(declared)):
                yield f"{feature}={value}", column == value


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values that hold for all of them together.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm({"a": 0.01, "b": 0.04})
    {'a': 0.02, 'b': 0.04}
    """
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda each: p_values[each])):
        highest = max(highest, min((len(p_values) - rank) * p_values[name], 1.0))
        adjusted[name] = highest
    return adjusted
