"""The page and the JSON document of a window, from reports of the drift engine."""

import json
import re
from html.parser import HTMLParser

import msgspec

from services.monitoring.reports import html_page
from services.monitoring.reports.history import WindowReport
from streams import records
from streams.records import Bins
from tests.browser.synthetic_year import Year
from tests.unit.drift import scenario
from tests.unit.monitoring.reports.windows import at

BARE = WindowReport(
    records.DriftReport(
        report_id="r", model="m", version=0, window_start_ms=0, window_end_ms=5, predictions=7, labels=0
    ),
    (),
    (),
    (),
)


def test_corrections_and_requests_that_were_asked_again_are_counted_since_the_window_before():
    report = msgspec.structs.replace(BARE.report, labels_corrected_total=7, predictions_asked_again_total=3)
    before = msgspec.structs.replace(report, labels_corrected_total=5, predictions_asked_again_total=3)
    page = html_page.as_html(WindowReport(report, (before,), (), ()))
    assert "<dt>Labels corrected</dt><dd>2</dd>" in page
    assert "<dt>Predictions asked again</dt><dd>0</dd>" in page


class Elements(HTMLParser):
    """Collects all tags, and those that are not closed yet."""

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


def test_the_loss_alarm_comes_first_then_what_to_do():
    html = html_page.as_html(at(27), scenario.declaration())
    assert (
        html.index("The model&#39;s loss is above its limit")
        < html.index("What to do")
        < html.index("<h2>Performance")
    )
    assert "log_loss" in html
    (now,) = re.findall(r"<p>1.282 and above: expected 9.9%, now ([\d.]+)%", html)
    assert float(now) > 50


def test_the_page_is_self_contained_and_well_formed():
    found = elements(html_page.as_html(at(27), scenario.declaration()))
    assert not [tag for tag, _ in found if tag in {"script", "link", "img", "iframe"}]
    assert not [attrs for _, attrs in found if {"src", "href", "style"} & attrs.keys()]
    assert [attrs for tag, attrs in found if tag == "svg" and not attrs.get("aria-label")] == []


def test_thresholds_are_compared_with_the_declared_one_marked():
    window = at(27)
    html = html_page.as_html(window, scenario.declaration())
    assert "at the declared threshold 0.5" in html
    (row,) = re.findall(r'<tr class="chosen">(.*?)</tr>', html)
    assert window.performance is not None
    whole = window.performance.segments[0]
    figures = {figure.measure: figure.realised for figure in whole.figures}
    assert f">{figures['precision']:.1%}</td>" in row
    counts = [int(each) for each in re.findall(r'number">(\d+)<', row)]
    assert sum(counts) == whole.labels
    assert "Cost per prediction" not in html


def test_classes_have_a_matrix_and_figures_each():
    window = at(27)
    whole = records.SegmentPerformance(segment="", predictions=9, labels=6, confusion=[[3, 1], [0, 2]])
    assert window.performance is not None
    performance = msgspec.structs.replace(
        window.performance, segments=[whole], classes=["<cat>", "dog"], threshold=None, thresholds=[]
    )
    html = html_page.as_html(WindowReport(window.report, (), (), (), performance))
    elements(html)
    assert "predicted &lt;cat&gt;" in html
    assert '<th scope="row">dog</th><td class="number">2</td><td class="number">3</td>' in html


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


def test_a_window_without_labels_says_that_the_performance_is_unknown():
    assert "There are no labels yet, so the performance is unknown" in html_page.as_html(BARE)


def test_the_arms_are_side_by_side_with_the_difference_of_their_losses():
    window = at(27)
    report = msgspec.structs.replace(window.report, arms=Year("m", days=40).reports[-1].arms)
    html = html_page.as_html(WindowReport(report, (), (), ()))
    elements(html)
    (section,) = re.findall(r"<h2>Arms</h2>.*?</section>", html, re.DOTALL)
    rows = [
        [
            re.sub(r"<[^>]+>", "", cell).strip()
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)[1:]
    ]
    assert [row[0] for row in rows] == ["champion", "new", "broken (shadow)", "frozen (shadow)"]
    champion, new, broken, frozen = rows
    assert champion[6] == "champion"
    assert re.fullmatch(r"[+-][\d.]+", new[6])
    assert re.fullmatch(r"\+0\.0\d+, paired", frozen[6])
    assert re.fullmatch(r"\+[\d.]+ to \+[\d.]+", frozen[8])
    assert (broken[3], broken[5:]) == (f"{report.arms[0].failed:,} (100.0%)", [""] * 6)
    assert champion[10] == "0.724 / 1.448 / 5.793 ms"
