"""Floors and ceilings of measures on the held-out rows. Pure."""

from collections.abc import Mapping

from services.model_registry.gate_results import GateResult, result
from services.retraining import evaluation
from services.retraining.gates.evidence import Evidence
from services.runtime.declaration import LOSSES, Gates, MeasureLimit, ModelDeclaration


def check(declaration: ModelDeclaration, gates: Gates, evidence: Evidence) -> list[GateResult]:
    """Return a result for ``gates.floor``, and for each of ``gates.limits``.

    A loss that is no number fails; another measure that the rows do not define has not enough data.
    """
    held_out, task = evidence.held_out, declaration.task
    limits = {f"limit {name}": (name, limit) for name, limit in gates.limits.items()}
    if gates.floor is not None:
        limits = {"floor": (gates.metric_of(task), MeasureLimit(max=gates.floor)), **limits}
    rows = len(held_out.labels)
    if rows < gates.minimum_rows:
        text = f"{rows} held-out rows, but gates.minimum_rows is {gates.minimum_rows}: wait for labels"
        return [result(gate, "not_enough_data", text, {"rows": rows}) for gate in limits]
    found = evaluation.measures(declaration, held_out.outputs, held_out.labels)
    return [_check(gate, *limit, found, rows, task) for gate, limit in limits.items()]


def _check(
    gate: str, name: str, limit: MeasureLimit, found: Mapping[str, float], rows: int, task: str
) -> GateResult:
    bounds = {key: each for key, each in (("min", limit.min), ("max", limit.max)) if each is not None}
    value = found.get(name)
    if value is None:
        text = f"these {rows} rows define no {name}"
        return result(gate, "failed" if name in LOSSES[task] else "not_enough_data", text, bounds)
    numbers = {name: value, "rows": rows, **bounds}
    if limit.max is not None and value > limit.max:
        return result(gate, "failed", f"{name} {value:.4f} is above the maximum of {limit.max:g}", numbers)
    if limit.min is not None and value < limit.min:
        return result(gate, "failed", f"{name} {value:.4f} is below the minimum of {limit.min:g}", numbers)
    return result(gate, "passed", f"{name} {value:.4f} on {rows} held-out rows is within its limits", numbers)
