"""How long a call of the candidate takes beside one of the champion, and the size of the model. Pure."""

import numpy as np
from scipy import stats

from services.model_registry.gate_results import GateResult, Outcome, result
from services.retraining.evaluation import Numbers
from services.retraining.gates.evidence import CallSample, Evidence
from services.runtime.declaration import Gates, LatencyGate, ModelDeclaration

NAME = "latency"
CALLS_MIN = 50
"""Minimum calls: with fewer, the 99th percentile is the slowest call."""
CONFIDENCE = 0.95
MIB = 2**20


def check(_: ModelDeclaration, gates: Gates, evidence: Evidence) -> list[GateResult]:
    """Return results for the duration of a call and for the size; none if the gate is not declared.

    A duration is too long if the lower end of its interval is: a machine that pauses once refuses nobody.
    """
    declared, calls = gates.latency, evidence.calls
    if declared is None:
        return []
    if calls is None or len(calls.seconds) < CALLS_MIN:
        text = f"fewer than {CALLS_MIN} calls were measured"
        return [result(NAME, "not_enough_data", text), *(_of_size(declared, calls) if calls else [])]
    return [_of_calls(declared, calls, evidence.champion_calls), *_of_size(declared, calls)]


def quantile_interval(values: Numbers, share: float) -> tuple[float, float, float]:
    """Return a quantile (low, value, high) with its interval by order statistics, for any distribution.

    Source: Conover, *Practical Nonparametric Statistics*, 1999, 3.2.
    """
    ordered, count = np.sort(values), len(values)
    low, high = stats.binom.interval(CONFIDENCE, count, share)
    positions = (low - 1, np.ceil(count * share) - 1, high)
    first, middle, last = (ordered[int(np.clip(position, 0, count - 1))] for position in positions)
    return float(first), float(middle), float(last)


def _of_calls(declared: LatencyGate, calls: CallSample, champion: CallSample | None) -> GateResult:
    numbers, slow, told = {}, [], []
    for share, name, ratio_max in (
        (0.5, "p50", declared.p50_ratio_max),
        (0.99, "p99", declared.p99_ratio_max),
    ):
        low, value, _ = quantile_interval(calls.seconds, share)
        numbers[f"{name}_ms"] = 1000 * value
        told.append(f"{name} {1000 * value:.2f} ms")
        if champion is not None and len(champion.seconds) >= CALLS_MIN:
            _, other, other_high = quantile_interval(champion.seconds, share)
            numbers |= {f"{name}_ratio": value / other, f"{name}_ratio_low": low / other_high}
            told[-1] += f" ({value / other:.2f} times the champion's)"
            if low / other_high > ratio_max:
                slow.append(f"{name} is more than {ratio_max:g} times the champion's")
        if name == "p99" and declared.p99_ms_max is not None and 1000 * low > declared.p99_ms_max:
            slow.append(f"p99 is above {declared.p99_ms_max:g} ms")
    text = "a call takes " + ", ".join(told) + (f": {' and '.join(slow)}" if slow else "")
    return result(NAME, "failed" if slow else "passed", text, numbers)


def _of_size(declared: LatencyGate, calls: CallSample) -> list[GateResult]:
    if declared.mib_max is None:
        return []
    mib = calls.size_bytes / MIB
    text = f"the model takes {mib:.1f} MiB of memory, at most {declared.mib_max:g} are allowed"
    outcome: Outcome = "failed" if mib > declared.mib_max else "passed"
    return [result("size", outcome, text, {"mib": mib, "max": declared.mib_max})]
