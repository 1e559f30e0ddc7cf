"""The terminal board: progress, quality of the models, alarms. Rendering only."""

import dataclasses
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from services.demo.account import Month
from services.demo.months import FLIGHTS, Calendar
from services.demo.summary import decimal
from streams import records

LABELS_MS = 12 * 3_600_000
"""Time after a month's end when all but the most delayed flights of a month have arrived."""
_HOUR_MS = 3_600_000
_WIDTH_MAX = 100
_BANNER_LINES = 6
_OTHER_LINES = 5
"""Progress, figures, the table's head, two blank lines."""
_HAPPENINGS_MIN, _HAPPENINGS_MAX = 4, 12


@dataclasses.dataclass(frozen=True)
class BoardState:
    """The contents of the board at one moment."""

    phase: str
    start_ms: int
    end_ms: int
    position_ms: int
    """Event time up to which everything was sent."""
    watermark_ms: int
    """Event time up to which drift has processed everything."""
    events_a_second: float
    predictions_a_second: float
    seconds: float
    version: int
    table: Sequence[Month]
    alarms: Sequence[records.DriftAlarm]
    """All alarms in the order of event time."""
    retrainings: Sequence[records.RetrainingFinished]
    """All finished retrainings in the order of event time."""
    open_reasons: Sequence[str] = ()
    """Reasons of the running retrainings."""
    calendar: Calendar = FLIGHTS

    @property
    def lag_hours(self) -> float:
        """Hours of event time that drift lags the sent events."""
        return max(0, self.position_ms - self.watermark_ms) / _HOUR_MS

    @property
    def share(self) -> float:
        """Share of the time that was played, 0 to 1."""
        length = self.end_ms - self.start_ms
        return min(1.0, max(0.0, (self.position_ms - self.start_ms) / length)) if length > 0 else 0.0


@dataclasses.dataclass
class Meter:
    """A rate per second, smoothed over about a second."""

    value: float = 0.0
    _count: int = 0
    _at_seconds: float | None = None

    def update(self, count: int, at_seconds: float) -> float:
        """Take the present count; return the rate."""
        if self._at_seconds is None:
            self._count, self._at_seconds = count, at_seconds
        elif (passed := at_seconds - self._at_seconds) > 0:
            weight = min(1.0, passed)
            self.value += weight * ((count - self._count) / passed - self.value)
            self._count, self._at_seconds = count, at_seconds
        return self.value


def banner(urls: Sequence[tuple[str, str]], advice: str) -> RenderableType:
    """Return the panel with all addresses."""
    grid = Table.grid(padding=(0, 2))
    for _ in range(2):
        grid.add_column(style="bold")
        grid.add_column(overflow="fold")
    half = (len(urls) + 1) // 2
    for row in range(half):
        grid.add_row(*(cell for name, url in urls[row::half] for cell in (name, _link(url))))
    return Panel(
        Group(grid, Text(advice, style="dim")), title="Driftline", title_align="left", width=_WIDTH_MAX
    )


def _link(url: str) -> Text:
    return Text(url, style=f"cyan link {url}" if url.startswith("http") else "cyan")


def render(snapshot: BoardState, height_lines: int = 50) -> RenderableType:
    """Return the board below the banner; a terminal with few lines shows fewer months and events."""
    free = height_lines - _BANNER_LINES - _OTHER_LINES
    happenings = min(max(free - len(snapshot.table), _HAPPENINGS_MIN), _HAPPENINGS_MAX)
    table = snapshot.table[-max(free - happenings, 1) :]
    parts: list[RenderableType] = [_progress(snapshot), _figures(snapshot)]
    if table:
        parts += [Text(), _months(table)]
    if snapshot.alarms or snapshot.retrainings or snapshot.open_reasons:
        parts += [Text(), _happenings(snapshot, happenings)]
    return Group(*parts)


def month_line(snapshot: BoardState, month: str) -> str:
    """Return the log line of a month, for output that is not a terminal."""
    known = next((line for line in snapshot.table if line.month == month), None)
    loss = (
        f"log loss {decimal(known.log_loss_live)}, frozen {decimal(known.log_loss_frozen)}"
        if known and known.labels
        else "collecting"
    )
    return (
        f"{month}  {snapshot.seconds:6.1f} s  {snapshot.events_a_second:7,.0f} events/s  "
        f"lag {snapshot.lag_hours:4.1f} h  version {snapshot.version}  {loss}  "
        f"{len(snapshot.alarms)} alarms  {len(snapshot.retrainings)} retrainings"
    )


def _progress(snapshot: BoardState) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text(snapshot.calendar.local_text(snapshot.position_ms), style="bold"),
        ProgressBar(total=1.0, completed=snapshot.share, width=40),
        Text(f"{snapshot.share:4.0%}"),
        Text(snapshot.phase, style="yellow" if snapshot.open_reasons else "green"),
    )
    return grid


def _figures(snapshot: BoardState) -> RenderableType:
    version = f"version {snapshot.version}" if snapshot.version else "no model yet"
    return Text(
        f"{snapshot.events_a_second:,.0f} events/s   {snapshot.predictions_a_second:,.0f} predictions/s   "
        f"lag {snapshot.lag_hours:.1f} h of event time   {version}   {snapshot.seconds:.0f} s",
        style="dim",
    )


def _months(table: Sequence[Month]) -> RenderableType:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("month")
    grid.add_column("requests", justify="right")
    grid.add_column("log loss", justify="right")
    grid.add_column("frozen", justify="right")
    grid.add_column("gain", justify="right")
    for month in table:
        live, frozen = month.log_loss_live, month.log_loss_frozen
        gain = live - frozen if live is not None and frozen is not None else None
        style = "green" if gain is not None and gain < -0.0005 else ""
        grid.add_row(
            month.month,
            f"{month.requests:,}",
            decimal(live),
            decimal(frozen),
            Text(decimal(gain, sign=True), style=style),
        )
    return grid


def _happenings(snapshot: BoardState, lines: int) -> RenderableType:
    """Return the latest retrainings and alarms; alarms get a third of the lines."""
    grid = Table.grid(padding=(0, 2))
    for _ in range(2):
        grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for reason in snapshot.open_reasons:
        grid.add_row(
            Text("now", style="yellow"), Text("retraining", style="yellow"), Text(reason, overflow="ellipsis")
        )
    for result in reversed(snapshot.retrainings[-(lines - lines // 3 - len(snapshot.open_reasons)) :]):
        promoted = result.result == "promoted"
        text = (
            f"version {result.version} promoted"
            if promoted
            else f"{result.result}: {'; '.join(result.reasons)}"
        )
        grid.add_row(
            Text(snapshot.calendar.local_text(result.requested_at_ms), style="dim"),
            Text("retrained", style="green" if promoted else "yellow"),
            Text(f"{text} ({result.trigger})", overflow="ellipsis"),
        )
    for alarm in reversed(snapshot.alarms[-(lines // 3) :]):
        grid.add_row(
            Text(snapshot.calendar.local_text(alarm.detected_at_ms), style="dim"),
            Text(f"{alarm.kind} drift", style="red"),
            Text(alarm.message, overflow="ellipsis"),
        )
    return grid
