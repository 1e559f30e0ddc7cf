"""The report of a window as one self-contained HTML page, without scripts, fonts or links. Pure."""

import base64
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from services.monitoring import arm_comparison, error_budget, window_loss
from services.monitoring.error_budget import ErrorBudget
from services.monitoring.reports import cost_section, outcome_section, svg_charts, verdict
from services.monitoring.reports.history import WindowReport
from services.monitoring.reports.svg_charts import Line
from services.runtime.declaration import ModelDeclaration
from streams import codec
from streams.records import Bins, DriftAlarm, DriftReport, FeatureDrift

CHARTS_MAX = 60
"""Maximum features with a chart, those with the most drift; the table has all features."""
NUMBERS_MAX = 100
"""Maximum features in the table of values, those with the most drift."""
EARLIER_WINDOWS_MAX = 60
"""Maximum earlier windows in the charts over time."""
ALARMS_MAX = 100
"""Maximum alarms in a table of alarms."""
P_VALUE_SHOWN_MIN = 1e-4

_FOLDER = Path(__file__).parent / "templates"
STYLE = (_FOLDER / "report.css").read_text(encoding="utf-8")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""Header for the process that serves the page; it allows only the style in the page's head."""


@dataclasses.dataclass(frozen=True)
class Card:
    """The chart of one feature, or of the scores."""

    name: str
    effect: str
    drifted: bool
    chart: str
    """The chart as SVG."""
    change: str
    """The bin that changed most, in words."""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How many labels and predictions of one window were joined."""

    joined: int
    unlabelled: int
    orphaned: int
    duplicate: int
    corrected: int
    """Labels whose value was replaced by a later one."""
    asked_again: int
    """Predictions whose id was asked before, within the horizon."""


def as_html(window: WindowReport, declaration: ModelDeclaration | None = None) -> str:
    """Return the page; with the declaration it also shows owner, alarm limit and error budget."""
    report, rare = window.report, verdict.rare_positives(window)
    return _template().render(
        report=report,
        style=STYLE,
        verdict=verdict.assess(window),
        declared=declaration,
        standing=window.standing[:ALARMS_MAX],
        standing_total=len(report.alarms_standing or ()),
        raised=[alarm for alarm in window.raised if alarm not in window.standing][:ALARMS_MAX],
        segments=_segments(window.standing),
        features=verdict.ranked(report),
        numbers=_numbers(report),
        cards=_cards(report),
        odd=[each for each in report.features if _is_notable(each)],
        coverage=_coverage(window),
        accuracy=verdict.accuracy_interval(report),
        loss_chart=_loss_chart(window, declaration),
        loss_name=_loss_name(report),
        loss=window_loss.loss_of(report),
        reference_loss=window_loss.reference_of(report),
        accuracy_chart=None if rare else _accuracy_chart(window),
        rare=rare,
        budget=_budget(window, declaration),
        performance=window.performance,
        arms=arm_comparison.side_by_side(report),
        costs=cost_section.make(window.performances[-EARLIER_WINDOWS_MAX:]) if window.performance else None,
        outcomes=outcome_section.make(window.performance, declaration),
    )


def as_json(window: WindowReport) -> bytes:
    """Return the same content for programs: the verdict, the record and the alarms."""
    document = {
        "verdict": dataclasses.asdict(verdict.assess(window)),
        "report": window.report,
        "standing": window.standing,
        "raised": window.raised,
        "performance": window.performance,
        "coverage": dataclasses.asdict(_coverage(window)),
        "accuracy_interval": verdict.accuracy_interval(window.report),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "time": _time,
        "share": "{:.1%}".format,
        "figure": _figure,
        "signed": "{:+.4g}".format,
        "p_value": _p_value,
        "known_share": _known_share,
    }
    environment.filters |= filters
    return environment.get_template("report.html")


def _cards(report: DriftReport) -> list[Card]:
    """Return the cards of the outputs, then those of the features with the most drift."""
    cards = []
    outputs = [each for each in (report.score, report.prediction) if each is not None]
    for each in (*outputs, *verdict.ranked(report)[:CHARTS_MAX]):
        if each.bins is not None:
            effect = f"PSI {each.psi:.3f}, drift threshold {each.threshold:.3f}"
            cards.append(_card(each.feature, each.bins, effect, drifted=each.drifted))
    return cards


def _card(name: str, bins: Bins, effect: str, *, drifted: bool) -> Card:
    shown = svg_charts.bars(bins)
    largest = max(shown, key=lambda bar: abs(bar.difference), default=None)
    change = ""
    if largest is not None:
        change = f"{largest.name}: expected {largest.expected:.1%}, now {largest.current:.1%}"
    return Card(name, effect, drifted, svg_charts.overlay(name, shown), change)


def _is_notable(drift: FeatureDrift) -> bool:
    return bool(drift.missing_share or drift.out_of_range_share or drift.new_categories)


def _numbers(report: DriftReport) -> list[FeatureDrift]:
    """Return the scores and the features with the most drift whose values have statistics."""
    scores = [] if report.score is None else [report.score]
    return [each for each in (*scores, *verdict.ranked(report)) if each.values is not None][:NUMBERS_MAX]


def _segments(active: Sequence[DriftAlarm]) -> list[tuple[str, list[DriftAlarm]]]:
    by_segment: dict[str, list[DriftAlarm]] = {}
    for alarm in active:
        if alarm.segment:
            by_segment.setdefault(alarm.segment, []).append(alarm)
    return sorted(by_segment.items(), key=lambda item: (-len(item[1]), item[0]))


def _coverage(window: WindowReport) -> Coverage:
    """Return the difference of the running totals from the previous window."""
    now, before = window.report, window.earlier[-1] if window.earlier else None

    def since(name: str) -> int:
        return int(getattr(now, name) - (getattr(before, name) if before else 0))

    return Coverage(
        joined=since("labels_joined_total"),
        unlabelled=since("predictions_unlabelled_total"),
        orphaned=since("labels_orphaned_total"),
        duplicate=since("labels_duplicate_total"),
        corrected=since("labels_corrected_total"),
        asked_again=since("predictions_asked_again_total"),
    )


def _loss_chart(window: WindowReport, declaration: ModelDeclaration | None) -> str:
    reports = (*window.earlier[-EARLIER_WINDOWS_MAX:], window.report)
    lines = [
        Line("live", "live", [window_loss.loss_of(report) for report in reports]),
        Line("training", "reference", [window_loss.reference_of(report) for report in reports]),
    ]
    losses = [report.shadow_losses or report.shadow_log_loss for report in reports]
    shadows = sorted({arm for each in losses for arm in each})
    lines += [Line(arm, "shadow", [each.get(arm) for each in losses]) for arm in shadows]
    tolerance = declaration.monitoring.loss_tolerance if declaration else 0.0
    found = window_loss.compare(window.report, tolerance)
    last = _number(window_loss.loss_of(window.report))
    title = f"{_loss_name(window.report)} of {len(reports)} windows; the last value is {last}"
    return svg_charts.timeline(title, lines, _days(reports), limit=found.limit if found else None)


def _loss_name(report: DriftReport) -> str:
    return window_loss.measure_of(report).replace("_", " ").capitalize()


def _accuracy_chart(window: WindowReport) -> str:
    reports = (*window.earlier[-EARLIER_WINDOWS_MAX:], window.report)
    intervals = [verdict.accuracy_interval(report) for report in reports]
    lines = [
        Line("95 % interval", "bound", [each[0] if each else None for each in intervals]),
        Line("95 % interval", "bound", [each[1] if each else None for each in intervals]),
        Line("accuracy", "live", [report.accuracy for report in reports]),
    ]
    title = f"Accuracy of {len(reports)} windows; the last value is {_number(window.report.accuracy)}"
    return svg_charts.timeline(title, lines, _days(reports))


def _budget(window: WindowReport, declaration: ModelDeclaration | None) -> ErrorBudget | None:
    """Return the error budget of the accuracy objective at the end of the window."""
    if declaration is None:
        return None
    reports = (*window.earlier, window.report)
    return error_budget.accuracy_budget(declaration, reports, window.report.window_end_ms)


def _days(reports: Sequence[DriftReport]) -> list[str]:
    return [_time(report.window_start_ms)[:10] for report in reports]


def _time(time_ms: int) -> str:
    return (codec.EPOCH + time_ms * codec.MILLISECOND).strftime("%Y-%m-%d %H:%M")


def _p_value(value: float) -> str:
    return f"< {P_VALUE_SHOWN_MIN:g}" if value < P_VALUE_SHOWN_MIN else f"{value:.4f}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _known_share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
