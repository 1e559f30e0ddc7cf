"""The year's alarms and retrainings as a page, with what had happened, and whether each retraining helped.

The page is made from the records of a run, the calendar and the weather, and from predictions that
`services.demo.hindsight` computes afterwards. No line of it is written by hand.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.demo.days import Days, day_of
from services.demo.hindsight import Service
from services.demo.summary import DemoSummary, decimal
from services.demo.worlds import FLIGHTS
from streams.records import DriftAlarm, RetrainingFinished, RetrainingRequested

_MESSAGE_LENGTH_MAX = 200


@dataclasses.dataclass(frozen=True)
class Year:
    """The contents of the page."""

    summary: DemoSummary
    alarms: Sequence[DriftAlarm]
    """Sorted by event time."""
    requests: Mapping[str, RetrainingRequested]
    """The requests by request id."""
    results: Sequence[RetrainingFinished]
    """The results, in the order of their request's event time."""
    services: Sequence[Service]
    days: Days


def write(year: Year, path: Path) -> None:
    """Write the page as Markdown; the file is replaced in one step."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page(year), encoding="utf-8")
    partial.replace(path)


def page(year: Year) -> str:
    """Return the page as Markdown."""
    sections = [_opening(year), _months(year.summary), _retrainings(year), _alarms(year)]
    return "\n\n".join(sections) + "\n"


def _opening(year: Year) -> str:
    drift = [result for result in year.results if result.trigger == "drift"]
    scheduled = [result for result in year.results if result.trigger == "schedule"]
    promoted = [result for result in (*drift, *scheduled) if result.result == "promoted"]
    harmless = [result for result in drift if not _harm(year.requests.get(result.request_id))]
    helped = sum(service.gain > 0 for service in year.services)
    without = "each of them with measured harm" if not harmless else f"{len(harmless)} of them without harm"
    return (
        "# The flights of 2013: every alarm, and what had happened\n\n"
        'Written by `make demo ARGS="--max --chronicle docs/reference/flights-2013.md"`: the alarms and '
        "retrainings of one run, with the delays and the weather of the same days. "
        f"{len(year.alarms)} alarms were raised; drift requested {len(drift)} retrainings, {without}. "
        f"{len(scheduled)} were requested because the last one was {FLIGHTS.retraining_days} days ago. "
        f"{len(promoted)} were promoted, and {helped} of the {len(year.services)} new versions "
        "had a lower loss than the previous version on the same flights."
    )


def _harm(request: RetrainingRequested | None) -> bool:
    """Tell whether the request's evidence contains a loss above its limit."""
    return request is not None and any(
        alarm.kind == "loss" and alarm.value > alarm.threshold for alarm in request.evidence
    )


def _months(found: DemoSummary) -> str:
    rows = [
        [
            line.month,
            f"{line.labels:,}",
            decimal(line.log_loss_live),
            decimal(line.log_loss_frozen),
            decimal(line.log_loss_monthly),
        ]
        for line in found.months
    ]
    live, monthly = found.mean_log_loss_live, found.monthly
    mean = ["mean", "", *map(decimal, (live, found.mean_log_loss_frozen, monthly.mean_log_loss))]
    heads = ("retrained", "January's model", "monthly retraining")
    table = _table(["month", "labels", *(f"log loss, {head}" for head in heads)], [*rows, mean])
    return f"## By month\n\n{_beside_monthly(found)}{table}"


def _beside_monthly(found: DemoSummary) -> str:
    """Return how the loop and monthly retraining compare; nothing if the latter was not computed."""
    live, monthly = found.mean_log_loss_live, found.monthly
    if live is None or monthly.mean_log_loss is None:
        return ""
    return (
        "*Monthly retraining* is computed beside: at the beginning of each month a model is trained by the "
        "same code on all rows before it whose label was mature, and answers the whole month. The mean log "
        "loss is "
        f"{live:.4f} with the {monthly.retrainings_live} trainings of the loop, and "
        f"{monthly.mean_log_loss:.4f} with {monthly.retrainings} monthly ones.\n\n"
    )


def _retrainings(year: Year) -> str:
    service_of = {service.version: service for service in year.services}
    rows = [
        [
            _day(result.requested_at_ms),
            _reason(year.requests.get(result.request_id)),
            f"version {result.version}" if result.result == "promoted" else _refused(result),
            _helped(service_of.get(result.version) if result.result == "promoted" else None),
        ]
        for result in year.results
    ]
    explained = (
        "*Helped*: the log loss of the new version and of the previous version on the flights that the new "
        "version answered, computed afterwards from the archive. Neither was trained on them."
    )
    return f"## Retrainings\n\n{explained}\n\n" + _table(["requested", "why", "result", "helped"], rows)


def _reason(request: RetrainingRequested | None) -> str:
    return "" if request is None else _text(request.reason)


def _refused(result: RetrainingFinished) -> str:
    return _text(f"{result.result}: {'; '.join(result.reasons)}")


def _helped(service: Service | None) -> str:
    if service is None:
        return ""
    verdict = "yes" if service.gain > 0 else "no"
    losses = f"{service.log_loss:.3f}, previous version {service.log_loss_of_predecessor:.3f},"
    return f"{verdict}: {losses} on {service.labels:,} flights to {_day(service.to_ms)}"


def _alarms(year: Year) -> str:
    parts = ["## Alarms"]
    for month in sorted({day_of(alarm.detected_at_ms).replace(day=1) for alarm in year.alarms}):
        alarms = [alarm for alarm in year.alarms if day_of(alarm.detected_at_ms).replace(day=1) == month]
        rows = [_alarm(alarm, year.days) for alarm in alarms]
        table = _table(["raised", "what", "since", "message", "what had happened"], rows)
        parts.append(f"### {month:%B}, {len(alarms)}\n\n{table}")
    return "\n\n".join(parts)


def _alarm(alarm: DriftAlarm, days: Days) -> list[str]:
    subject = f"`{alarm.subject}`" + (f" where `{alarm.segment}`" if alarm.segment else "")
    start, end = day_of(alarm.since_ms), day_of(alarm.detected_at_ms)
    return [
        _day(alarm.detected_at_ms),
        f"{alarm.kind} {subject}",
        _since(alarm),
        _text(alarm.message),
        days.summary(min(start, end), end),
    ]


def _since(alarm: DriftAlarm) -> str:
    if alarm.since_from_ms is None or alarm.since_to_ms is None:
        return _day(alarm.since_ms)
    first, last = _day(alarm.since_from_ms), _day(alarm.since_to_ms)
    return first if first == last else f"{first} to {last}"


def _day(event_time_ms: int) -> str:
    return f"{day_of(event_time_ms):%-d %b}"


def _text(message: str) -> str:
    """Fit a message into a cell."""
    line = " ".join(message.split()).replace("|", "\\|")
    return line if len(line) <= _MESSAGE_LENGTH_MAX else line[: _MESSAGE_LENGTH_MAX - 1] + "…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
