"""The result of the demo: as a record, as JSON and as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.demo.account import Month, RequestAccount, mean_log_losses
from services.demo.figures import Figures, MinutesLine, MinutesSummary, PeriodLine
from services.demo.months import rfc3339
from services.demo.trial import verdict_table
from services.demo.trial.verdicts import CandidateVerdict
from services.demo.world import Companion
from streams import records


class RetrainingLine(msgspec.Struct, kw_only=True, frozen=True):
    """How one retraining ended."""

    time: str
    trigger: str
    version: int
    promoted: bool
    result: str
    reasons: list[str]
    rows: int
    duration_seconds: float


class AlarmLine(msgspec.Struct, kw_only=True, frozen=True):
    """One alarm of drift."""

    time: str
    kind: str
    subject: str
    value: float
    threshold: float
    message: str


class MonthLine(msgspec.Struct, kw_only=True, frozen=True):
    """One month of the table."""

    month: str
    requests: int
    labels: int
    log_loss_live: float | None
    log_loss_frozen: float | None
    auc_live: float | None
    log_loss_monthly: float | None = None
    """The figures with monthly retraining, see `MonthlySummary`."""


class MonthlySummary(msgspec.Struct, kw_only=True, frozen=True):
    """Monthly retraining on all months before; only with ``--monthly`` or ``--chronicle``."""

    mean_log_loss: float | None = None
    """Mean of the monthly means; null: it was not computed."""
    retrainings: int = 0
    """Models trained, one for each month."""
    retrainings_live: int = 0
    """Versions of the loop that were trained for the same months, with the first one."""


class Durations(msgspec.Struct, kw_only=True, frozen=True):
    """Wall time by phase; the last two are part of ``streaming_seconds``."""

    startup_seconds: float = 0.0
    streaming_seconds: float = 0.0
    holding_seconds: float = 0.0
    """Time during which event time was stopped for retrainings."""
    waiting_seconds: float = 0.0
    """Time during which the producer had reached its lead over drift and waited."""


class DemoSummary(msgspec.Struct, kw_only=True, frozen=True):
    """The complete result; the keys of ``--summary FILE``."""

    complete: bool
    """Whether all was played to its end; false after Ctrl-C or an error."""
    faults: list[str]
    """Violated expectations; empty for a correct run."""
    seconds: float
    events_sent: int
    requests_sent: int
    """Requests since scoring started, which a model had to answer."""
    predicted: int
    collected: int
    """Requests before there was a model."""
    repeats: int
    dead_letters: int
    labels_joined: int
    labels_orphaned: int
    predictions_unlabelled: int
    retrainings: list[RetrainingLine]
    alarms: list[AlarmLine]
    months: list[MonthLine]
    mean_log_loss_live: float | None
    mean_log_loss_frozen: float | None
    monthly: MonthlySummary = MonthlySummary()
    minutes: MinutesSummary
    periods: list[PeriodLine]
    candidates: list[CandidateVerdict] = []
    """What has stopped each candidate of ``--bad-candidates``."""
    durations: Durations
    bound_by: str
    cpu_seconds: dict[str, float]
    """CPU seconds by process."""
    event_time: str
    """Event time reached."""


def summarise(
    account: RequestAccount,
    companion: Companion | None,
    results: Sequence[records.RetrainingFinished],
    *,
    complete: bool,
    faults: Sequence[str],
    seconds: float,
    events_sent: int,
    requests_sent: int,
    position_ms: int,
    durations: Durations,
    cpu_seconds: Mapping[str, float],
    candidates: Sequence[CandidateVerdict] = (),
) -> DemoSummary:
    """Return the result."""
    table = account.months(with_auc=True)
    live, frozen = mean_log_losses(table)
    report = account.report
    figures = companion.figures() if companion else Figures()
    return DemoSummary(
        complete=complete,
        faults=list(faults),
        seconds=round(seconds, 1),
        events_sent=events_sent,
        requests_sent=requests_sent,
        predicted=account.predicted,
        collected=account.collected,
        repeats=account.repeats,
        dead_letters=account.dead_letters,
        labels_joined=report.labels_joined_total if report else 0,
        labels_orphaned=report.labels_orphaned_total if report else 0,
        predictions_unlabelled=report.predictions_unlabelled_total if report else 0,
        retrainings=[_retraining_line(result) for result in results],
        alarms=[_alarm_line(alarm) for alarm in account.alarms_in_order()],
        months=[_month_line(month) for month in table],
        mean_log_loss_live=live,
        mean_log_loss_frozen=frozen,
        minutes=figures.minutes,
        periods=figures.periods,
        candidates=list(candidates),
        durations=durations,
        bound_by=bound_by(durations, cpu_seconds, seconds),
        cpu_seconds={
            name: round(used, 1) for name, used in sorted(cpu_seconds.items(), key=lambda item: -item[1])
        },
        event_time=rfc3339(position_ms),
    )


def _retraining_line(result: records.RetrainingFinished) -> RetrainingLine:
    return RetrainingLine(
        time=rfc3339(result.requested_at_ms),
        trigger=result.trigger,
        version=result.version,
        promoted=result.result == "promoted",
        result=result.result,
        reasons=result.reasons,
        rows=result.rows,
        duration_seconds=round(result.duration_seconds, 1),
    )


def _alarm_line(alarm: records.DriftAlarm) -> AlarmLine:
    return AlarmLine(
        time=rfc3339(alarm.detected_at_ms),
        kind=alarm.kind,
        subject=alarm.subject,
        value=alarm.value,
        threshold=alarm.threshold,
        message=alarm.message,
    )


def _month_line(month: Month) -> MonthLine:
    return MonthLine(
        month=month.month,
        requests=month.requests,
        labels=month.labels,
        log_loss_live=month.log_loss_live,
        log_loss_frozen=month.log_loss_frozen,
        auc_live=month.auc_live,
    )


def bound_by(durations: Durations, cpu_seconds: Mapping[str, float], seconds: float) -> str:
    """Return in one sentence how the wall time was spent."""
    parts = [
        f"start-up {durations.startup_seconds:.0f} s",
        (
            f"streaming {durations.streaming_seconds - durations.holding_seconds:.0f} s "
            f"({durations.waiting_seconds:.0f} s of it waiting for the processes)"
        ),
        f"retrainings {durations.holding_seconds:.0f} s",
    ]
    used = sum(cpu_seconds.values())
    busiest = sorted(cpu_seconds.items(), key=lambda item: -item[1])[:4]
    if used and seconds > 0:
        names = ", ".join(f"{name} {value:.0f} s" for name, value in busiest)
        parts.append(f"{used / seconds:.1f} processors busy on average ({names})")
    return "; ".join(parts)


def write(summary: DemoSummary, path: Path) -> None:
    """Write the result as JSON; the file is replaced in one step."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    partial.replace(path)


def show(summary: DemoSummary, console: Console) -> None:
    """Print the result."""
    console.print(render(summary))


def render(summary: DemoSummary) -> RenderableType:
    """Return the result as text for a terminal or a log."""
    parts: list[RenderableType] = [Text()]
    if summary.months:
        parts.append(months_table(summary.months, summary))
    if summary.minutes.months:
        parts.append(_minutes_table(summary.minutes.months))
    if summary.periods:
        parts.append(_periods_table(summary.periods))
    if summary.retrainings:
        parts.append(_retrainings_table(summary.retrainings))
    if summary.candidates:
        parts.append(verdict_table.table(summary.candidates))
    parts.append(_account_text(summary))
    parts += [Text(f"Fault: {fault}", style="bold red") for fault in summary.faults]
    return Group(*parts)


def months_table(lines: Sequence[MonthLine], total: DemoSummary | None = None) -> Table:
    """Return the table of months; with a total, their means are in the footer."""
    table = Table(
        title="Log loss by month",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_footer=total is not None,
        pad_edge=False,
    )
    live, frozen = (total.mean_log_loss_live, total.mean_log_loss_frozen) if total else (None, None)
    gain = None if live is None or frozen is None else live - frozen
    table.add_column("month", footer="mean")
    table.add_column("requests", justify="right", footer=f"{sum(line.requests for line in lines):,}")
    table.add_column("live", justify="right", footer=decimal(live))
    table.add_column("frozen", justify="right", footer=decimal(frozen))
    table.add_column("gain", justify="right", footer=decimal(gain, sign=True))
    table.add_column("AUC", justify="right")
    monthly = total.monthly.mean_log_loss if total else None
    if monthly is not None:
        table.add_column("monthly", justify="right", footer=decimal(monthly))
    for line in lines:
        both = line.log_loss_live is not None and line.log_loss_frozen is not None
        difference = (line.log_loss_live or 0) - (line.log_loss_frozen or 0) if both else None
        table.add_row(
            line.month,
            f"{line.requests:,}",
            decimal(line.log_loss_live),
            decimal(line.log_loss_frozen),
            decimal(difference, sign=True),
            decimal(line.auc_live),
            *([] if monthly is None else [decimal(line.log_loss_monthly)]),
        )
    return table


def _minutes_table(lines: Sequence[MinutesLine]) -> Table:
    table = Table(
        title="Learning online: mean absolute error in minutes",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("month")
    for name in ("labels", "live", "running mean", "gain"):
        table.add_column(name, justify="right")
    for line in lines:
        gain = line.mae_live - line.mae_running_mean
        cells = (f"{line.mae_live:.2f}", f"{line.mae_running_mean:.2f}", f"{gain:+.2f}")
        table.add_row(line.month, f"{line.labels:,}", *cells)
    return table


def _periods_table(lines: Sequence[PeriodLine]) -> Table:
    table = Table(title="By period", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("from")
    for name in ("average precision", "frozen", "log loss shown", "true"):
        table.add_column(name, justify="right")
    for line in lines:
        found = (line.average_precision_live, line.average_precision_frozen, line.log_loss_shown)
        table.add_row(line.from_[:10], *map(decimal, found), decimal(line.log_loss_true))
    return table


def _minutes_lines(minutes: MinutesSummary) -> list[str]:
    if not minutes.predicted + minutes.collected:
        return []
    return [
        (
            f"Minutes      predicted {minutes.predicted:,}; collected {minutes.collected:,}; "
            f"repeats {minutes.repeats:,}; version {minutes.version}"
        )
    ]


def decimal(value: float | None, *, sign: bool = False) -> str:
    """Return three decimals, or a dash for an unknown value."""
    if value is None:
        return "-"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def _retrainings_table(lines: Sequence[RetrainingLine]) -> Table:
    table = Table(title="Retrainings", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("event time (UTC)", "trigger", "version", "result"):
        table.add_column(name)
    table.add_column("rows", justify="right")
    table.add_column("took", justify="right")
    for line in lines:
        result = line.result if line.promoted else f"{line.result}: {'; '.join(line.reasons)}"
        table.add_row(
            line.time,
            line.trigger,
            str(line.version or "-"),
            result,
            f"{line.rows:,}",
            f"{line.duration_seconds:.1f} s",
        )
    return table


def _account_text(summary: DemoSummary) -> Text:
    state = "Finished" if summary.complete else f"Stopped at {summary.event_time}"
    kinds = sorted({alarm.kind for alarm in summary.alarms})
    counts = ", ".join(f"{sum(alarm.kind == kind for alarm in summary.alarms)} {kind}" for kind in kinds)
    promoted = sum(line.promoted for line in summary.retrainings)
    lines = [
        (
            f"Account      sent {summary.requests_sent:,} = predicted {summary.predicted:,} + "
            f"dead letters {summary.dead_letters:,}; repeats {summary.repeats:,}; "
            f"collected before the first model {summary.collected:,}"
        ),
        (
            f"Labels       joined {summary.labels_joined:,}; without prediction {summary.labels_orphaned:,}; "
            f"predictions without label {summary.predictions_unlabelled:,}"
        ),
        *_minutes_lines(summary.minutes),
        f"Alarms       {len(summary.alarms)}" + (f" ({counts})" if counts else ""),
        f"Time         {summary.bound_by}",
        (
            f"{state} after {summary.seconds:.1f} s: {summary.events_sent:,} events, "
            f"{summary.predicted:,} predictions, {promoted} models promoted."
        ),
    ]
    monthly = summary.monthly
    if monthly.mean_log_loss is not None:
        loop = f"{summary.mean_log_loss_live or 0:.4f} with {monthly.retrainings_live} trainings of the loop"
        beside = f"{monthly.mean_log_loss:.4f} with {monthly.retrainings} monthly ones"
        lines.insert(3, f"Log loss     {loop}, {beside}")
    if summary.faults:
        lines[0] = lines[0].replace(" = ", " but ", 1)
    return Text("\n".join(lines))
