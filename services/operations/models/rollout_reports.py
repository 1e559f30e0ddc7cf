"""The records of rollouts as lines for a terminal. Pure."""

from streams import codec
from streams.records import GuardrailFigures, RolloutEnded, RolloutRecord, RolloutRequested, RolloutStarted


def lines_of(record: RolloutRecord) -> list[str]:
    """Return what a record decided, and the evidence of each guardrail."""
    if isinstance(record, RolloutRequested):
        what = f"version {record.version} requested by {record.actor}: {record.reason}"
        return [f"{_time(record.requested_at_ms)}  {record.request_id}: {what}"]
    at = _time(record.at_ms)
    if isinstance(record, RolloutStarted):
        wait = ", waits for approval" if record.awaits_approval else ""
        return [f"{at}  {record.rollout_id}: begins against version {record.champion}{wait}"]
    if isinstance(record, RolloutEnded):
        what = record.outcome.replace("_", " ")
    else:
        what = f"step {record.step + 1}, {f'{record.share / 100:g}%' if record.share else 'shadow'}"
    return [f"{at}  {record.rollout_id}: {what}: {record.reason}", *map(_line, record.evidence)]


def _line(figures: GuardrailFigures) -> str:
    size = ""
    if figures.difference is not None:
        size = f", difference {figures.difference:+.4g}"
    if figures.low is not None and figures.high is not None:
        size += f" ({figures.low:+.4g} to {figures.high:+.4g})"
    return (
        f"    {figures.guardrail}: worse {figures.evidence:.1f} of {figures.needed:.1f}, within the margin "
        f"{figures.within:.1f} of {figures.within_needed:.1f}, {figures.count} counted{size}"
    )


def _time(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).isoformat(timespec="seconds").replace("+00:00", "Z")
