"""The report of a window, from what the drift engine itself says of a small world."""

import functools
import json
import re
from html.parser import HTMLParser

import msgspec
import pytest

from services.monitoring.reports import html_page, verdict
from services.monitoring.reports.history import NoWindowError, WindowHistory, WindowReport
from services.monitoring.reports.svg_charts import bars
from streams import records
from streams.records import Bins
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS


@functools.cache
def history() -> WindowHistory:
    """Calm hours, then a shift that does harm."""
    outputs = scenario.play(scenario.new_engine(partitions=2), scenario.traffic(30, shift_at=20, a_hour=200))
    made = WindowHistory()
    for record in outputs.drift:
        made.add(record)
    return made


def at(hour: int) -> WindowReport:
    return history().window(START_MS + hour * HOUR_MS)


class Elements(HTMLParser):
    """Counts what is open, and remembers every tag."""

    VOID = frozenset({"meta", "br", "path", "rect", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


def test_harm_comes_first_then_what_to_do():
    html = html_page.as_html(at(27), scenario.declaration())
    assert (
        html.index("The model&#39;s loss is above its limit")
        < html.index("What to do")
        < html.index("<h2>Performance")
    )
    assert "log_loss" in html
    (now,) = re.findall(r"<p>1.282 and above: expected 9.9%, now ([\d.]+)%", html)
    assert float(now) > 50


def test_page_needs_nothing_from_elsewhere_and_is_well_formed():
    found = elements(html_page.as_html(at(27), scenario.declaration()))
    assert not [tag for tag, _ in found if tag in {"script", "link", "img", "iframe"}]
    assert not [attrs for _, attrs in found if {"src", "href", "style"} & attrs.keys()]
    assert [attrs for tag, attrs in found if tag == "svg" and not attrs.get("aria-label")] == []


def test_calm_window_says_that_nothing_is_to_be_done():
    found = verdict.assess(at(5))
    assert (found.level, found.to_do) == ("calm", ("No action is needed.",))
    assert "No alarm is active" in found.why


def test_change_without_harm_is_no_harm():
    window = at(27)
    standing = tuple(alarm for alarm in window.standing if alarm.kind != "loss")
    found = verdict.assess(WindowReport(window.report, window.earlier, standing, ()))
    assert (found.level, found.headline) == ("changed", "Drift was detected; no loss alarm is active")
    assert "Alarms are active on x" in found.why


def test_window_without_a_model_has_nothing_to_compare_with():
    bare = records.DriftReport(
        report_id="r", model="m", version=0, window_start_ms=0, window_end_ms=5, predictions=7, labels=0
    )
    found = verdict.assess(WindowReport(bare, (), (), ()))
    assert (found.level, found.why) == (
        "unknown",
        "7 requests were recorded without a prediction: no model was serving.",
    )
    assert "There are no labels yet, so the performance is unknown" in html_page.as_html(
        WindowReport(bare, (), (), ())
    )


def test_names_from_the_wire_are_escaped():
    window = at(27)
    evil = "<script>alert(1)</script>"
    feature = msgspec.structs.replace(
        window.report.features[1],
        feature=evil,
        new_categories=[evil],
        bins=Bins(categories=[evil, "(others)", "(new)"], expected=[0.5, 0.5, 0, 0], counts=[1, 1, 1, 0]),
    )
    report = msgspec.structs.replace(window.report, features=[feature])
    assert "<script" not in html_page.as_html(WindowReport(report, (), window.standing, ()))


def test_contributions_are_shown_with_their_segment():
    window = at(27)
    most = window.report.contributions[0]
    assert "<td>all</td>" in html_page.as_html(window)
    report = msgspec.structs.replace(
        window.report, contributions=[msgspec.structs.replace(most, segment="colour=red")]
    )
    shown = WindowReport(report, (), window.standing, ())
    assert "<td>colour=red</td>" in html_page.as_html(shown)
    assert json.loads(html_page.as_json(shown))["report"]["contributions"][0]["segment"] == "colour=red"


def test_json_holds_the_record_the_verdict_and_the_alarms():
    document = json.loads(html_page.as_json(at(27)))
    assert document["verdict"]["level"] == "harm"
    assert document["report"]["report_id"] == at(27).report.report_id
    assert {alarm["subject"] for alarm in document["standing"]} >= {"log_loss", "x"}
    low, high = document["accuracy_interval"]
    assert low < document["report"]["accuracy"] < high


def test_window_is_found_by_any_time_within_it_and_the_latest_without():
    first = at(5).report
    assert first.window_start_ms == START_MS + 5 * HOUR_MS
    assert history().window(first.window_end_ms - 1).report == first
    assert history().window(first.window_end_ms).report.window_start_ms == first.window_end_ms
    assert history().window().report == history().windows()[-1]
    for missing_ms in (START_MS - 1, START_MS + 1000 * HOUR_MS):
        with pytest.raises(NoWindowError, match="the first begins at"):
            history().window(missing_ms)
    with pytest.raises(NoWindowError):
        WindowHistory().window()


def test_a_revised_report_replaces_the_one_before():
    made = WindowHistory()
    report = at(5).report
    made.add(report)
    made.add(msgspec.structs.replace(report, labels=report.labels + 7, revision=1))
    made.add(report)
    assert [each.labels for each in made.windows()] == [report.labels + 7]


def test_wilsons_interval_is_his():
    report = msgspec.structs.replace(at(5).report, labels=10, accuracy=0.9)
    assert verdict.accuracy_interval(report) == pytest.approx((0.5958, 0.9821), abs=1e-3)


def test_bins_have_names_and_empty_ones_are_left_out():
    shown = bars(Bins(edges=[0.0, 1.5], expected=[0, 0.5, 0.5, 0], counts=[2, 0, 2, 0]))
    assert [bar.name for bar in shown] == ["below 0", "0 to 1.5", "1.5 and above"]
    assert shown[0].difference == 0.5
