"""The dashboard's process, fed through a real Kafka, looked at with a real Chromium."""

import datetime as dt
import json
import os
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, ConsoleMessage, FloatRect, Locator, Page, expect, sync_playwright

from services.monitoring import classification
from services.monitoring.classification import Confusion
from services.monitoring.reports import html_page as report_page
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import topics
from streams.records import DriftAlarm, DriftReport, FeatureDrift, encode
from tests.browser.synthetic_year import DAY_MS, Year
from tests.processes import Process
from tests.tools import tool
from tests.unit.drift import scenario
from tests.unit.monitoring.reports.windows import at as harmed_window
from tests.waiting import LIVENESS_SECONDS

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
MODEL = f"year_{os.getpid()}_{int(time.time())}"
REGRESSION = "arrival_minutes"
"""A declared model, whose tolerance the page knows."""
expect.set_options(timeout=LIVENESS_SECONDS * 1000)
PLOTS = (
    "drift-plot",
    "events-plot",
    "performance-plot",
    "coverage-plot",
    "decisions-plot",
    "costs-plot",
    "saved-plot",
    "values-plot",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = tool("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Scoring(ThreadingHTTPServer):
    """Stands for the scoring process: metrics as it serves them, 500 predictions more at each reading."""

    daemon_threads = True

    def __init__(self) -> None:
        self.readings = 0
        super().__init__(("127.0.0.1", 0), _Metrics)


class _Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.readings += 1  # type: ignore[attr-defined]  # the server above
        total = 500 * self.server.readings  # type: ignore[attr-defined]  # the server above
        histogram = "driftline_prediction_duration_seconds_bucket"
        lines = [
            f'driftline_predictions_total{{model="{MODEL}",outcome="scored"}} {total}',
            f'{histogram}{{model="{MODEL}",channel="kafka",le="0.01"}} 0',
            f'{histogram}{{model="{MODEL}",channel="kafka",le="0.02"}} {total}',
            f'{histogram}{{model="{MODEL}",channel="kafka",le="+Inf"}} {total}',
            'driftline_consumer_lag_records{group="driftline.scoring.m",topic="t",partition="0"} 321',
        ]
        body = "\n".join([*lines, ""]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def scoring_url() -> Iterator[str]:
    server = Scoring()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def year() -> Year:
    return Year(MODEL)


def regression_reports(year: Year) -> list[DriftReport]:
    """Return windows of a regression of whose requests a tenth is read, and whose reference is small."""
    return [
        msgspec.structs.replace(
            report,
            report_id=f"{REGRESSION}:{number}",
            model=REGRESSION,
            log_loss=None,
            accuracy=None,
            reference_log_loss=None,
            shadow_log_loss={},
            arms=[],
            measures={"absolute_error": 20.0 + number / 10},
            reference_loss=18.0,
            reference_loss_error=6.0,
            sample=0.1,
        )
        for number, report in enumerate(year.reports[-30:])
    ]


@pytest.fixture(scope="module")
def producer(kafka: str, year: Year) -> Iterator[KafkaProducer]:
    """A producer that has put the year on the topics."""
    ensure_topics(Settings().model_copy(update={"broker": kafka}), {})
    producer = KafkaProducer(bootstrap_servers=kafka, max_block_ms=30_000)
    for topic, value in year.records:
        producer.send(topic, value=value, key=MODEL.encode())
    for report in regression_reports(year):
        producer.send(topics.DRIFT.name, value=encode(report), key=REGRESSION.encode())
    producer.flush()
    yield producer
    producer.close()


def make_settings(kafka: str, scoring_url: str) -> Settings:
    from services.operations.local_servers import ports

    changes = {"broker": kafka, "scoring_url": scoring_url, "dashboard_port": ports.free_port()}
    return Settings().model_copy(update=changes)


def wait_for_windows(url: str, windows: int, model: str = MODEL) -> None:
    deadline = time.monotonic() + LIVENESS_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/api/state", timeout=LIVENESS_SECONDS) as response:
            models = json.load(response)["models"]
        if len(models.get(model, {}).get("windows", [])) >= windows:
            return
        time.sleep(0.2)
    raise AssertionError(f"the dashboard has not read {windows} windows of {model} in {LIVENESS_SECONDS} s")


def wait_until_live(url: str) -> None:
    """Wait until it answers at all: without Kafka it does not become ready."""
    deadline = time.monotonic() + LIVENESS_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/health/live", timeout=LIVENESS_SECONDS).close()
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="module")
def dashboard(
    kafka: str,
    scoring_url: str,
    year: Year,
    producer: KafkaProducer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("dashboard") / "log"
    with Process("dashboard", make_settings(kafka, scoring_url), log=log) as process:
        process.wait_ready()
        wait_for_windows(process.url, len(year.reports))
        yield process


class Visitor:
    """A browser that opens pages; any error in its console fails the test."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        self.errors: list[str] = []

    def open(
        self,
        fragment: str = "",
        *,
        model: str = MODEL,
        width: int = 1440,
        height: int = 1100,
        scheme: str = "light",
    ) -> Page:
        context = self.browser.new_context(
            locale="en-US",
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]  # light or dark
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"{self.url}/#model={model}{fragment}")
        expect(page.locator("#link-text")).to_have_text("Live")
        expect(page.locator("#drift-plot canvas")).to_be_visible()
        return page

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)


@pytest.fixture
def visitor(browser: Browser, dashboard: Process) -> Iterator[Visitor]:
    visitor = Visitor(browser, dashboard.url)
    yield visitor
    for context in browser.contexts:
        context.close()
    assert visitor.errors == []


def box_of(page: Page, plot: str) -> FloatRect:
    over = page.locator(f"#{plot} .u-over")
    over.scroll_into_view_if_needed()  # the mouse only reaches what is on the screen
    box = over.bounding_box()
    assert box is not None
    return box


def point_of(page: Page, plot: str, at_ms: float, height_share: float) -> tuple[float, float]:
    """Where on the screen an event time is, in a page that shows the whole year."""
    box = box_of(page, plot)
    start_ms, end_ms = dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC), dt.datetime(2014, 1, 1, 5, tzinfo=dt.UTC)
    share = (at_ms - start_ms.timestamp() * 1000) / ((end_ms - start_ms).total_seconds() * 1000)
    return box["x"] + share * box["width"], box["y"] + height_share * box["height"]


def drag(page: Page, plot: str, from_share: float, to_share: float) -> None:
    box = box_of(page, plot)
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + from_share * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + to_share * box["width"], middle, steps=4)
    page.mouse.up()


def rows(page: Page, table: str) -> Locator:
    return page.locator(f"#{table}-table tbody tr")


def day_text(at_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return f"{moment.day} {moment:%b %Y}"


def test_strip_tells_versions_times_rates_and_lag(visitor: Visitor, year: Year) -> None:
    page = visitor.open()
    promoted = [result for result in year.finished if result.result == "promoted"]
    expect(page.locator("#model")).to_have_value(MODEL)
    expect(page.locator("#live-version")).to_have_text(f"v{promoted[-1].version}")
    expect(page.locator("#frozen-version")).to_have_text("v1")
    expect(page.locator("#event-date")).to_have_text("1 Jan 2014")
    expect(page.locator("#event-clock")).to_contain_text("05:00 UTC")
    expect(page.locator("#retrained")).to_have_text(day_text(year.finished[-1].requested_at_ms))
    expect(page.locator("#retrained-note")).to_contain_text(year.finished[-1].result)
    expect(page.locator("#lag")).to_have_text("321")
    expect(page.locator("#rate")).to_have_text(re.compile(r"^\d{3}/s$"))
    expect(page.locator("#latency")).to_have_text("15 / 20")
    expect(page.locator("#processes")).to_have_text("All up")


def test_a_regression_has_its_loss_in_training_the_limit_of_its_alarm_and_its_sample(
    visitor: Visitor,
) -> None:
    page = visitor.open(model=REGRESSION)
    legend = page.locator("#performance-legend")
    expect(page.locator("#performance-what")).to_contain_text("Absolute error")
    expect(legend).to_contain_text("in training18.000")
    expect(legend).to_contain_text("harm above24.000")  # the tolerance is a quarter of 18
    expect(page.locator("#summary")).to_contain_text("a sample of 10 % of the requests")


def test_arms_are_side_by_side_for_the_window_at_the_cursor(visitor: Visitor, year: Year) -> None:
    page = visitor.open()

    def shown() -> list[list[str]]:
        rows = page.locator("#arms tbody tr").all()
        return [row.locator("th, td").all_text_contents() for row in rows]

    page.locator("#arms").scroll_into_view_if_needed()
    for day in (-1, -2):
        if day == -2:
            page.locator("#drift-plot").focus()
            page.keyboard.press("ArrowLeft")
            page.keyboard.press("ArrowLeft")
        report = year.reports[day]
        expect(page.locator("#arms .panel-what")).to_contain_text(
            f"Window ending {day_text(report.window_end_ms)}"
        )
        champion, new, broken, frozen = shown()
        arms = {each.arm: each for each in report.arms}
        assert champion[0] == "champion"
        assert champion[6] == "champion"
        assert (broken[0], broken[3]) == ("broken (shadow)", f"{arms['broken'].failed:,} (100.00 %)")
        difference = arms["frozen"].difference
        assert difference is not None
        assert frozen[6] == f"{difference.mean:+.3f}, paired"
        assert frozen[7] == f"{difference.low:+.3f} to {difference.high:+.3f}"
        assert new[9] == "1.0 / 1.0"


def test_summary_and_account_are_those_of_the_last_report(visitor: Visitor, year: Year) -> None:
    page = visitor.open()
    last = year.reports[-1]
    over = sum(drift.drifted for drift in last.features) + bool(last.score and last.score.drifted)
    series = len(last.features) + 1
    expect(page.locator("#summary")).to_contain_text(f"{over} of {series} series")
    expect(page.locator("#summary")).to_contain_text("better than the frozen first model")
    expect(page.locator("#account-joined")).to_have_text(f"{last.labels_joined_total:,}")
    expect(page.locator("#account-orphaned")).to_have_text(f"{last.labels_orphaned_total:,}")
    expect(page.locator("#account-unlabelled")).to_have_text(f"{last.predictions_unlabelled_total:,}")


def test_features_are_ranked_and_the_chosen_one_is_followed(visitor: Visitor, year: Year) -> None:
    page = visitor.open()
    ranked = sorted(year.reports[-1].features, key=lambda drift: -drift.psi)
    buttons = page.locator("button.feature")
    expect(buttons.first).to_contain_text(ranked[0].feature)
    expect(buttons.first).to_have_attribute("aria-pressed", "true")
    expect(buttons.first).to_contain_text(f"{ranked[0].psi:.2f}")
    buttons.filter(has_text="temperature").click()
    page.locator("button.feature").filter(has_text="pressure").click(modifiers=["Shift"])
    assert "feature=temperature&feature=pressure" in page.url
    psi = {drift.feature: drift.psi for drift in ranked}
    legend = page.locator("#drift-legend")
    expect(legend).to_contain_text(f"temperature{psi['temperature']:.2f}")
    expect(legend).to_contain_text(f"pressure{psi['pressure']:.2f}")
    page.get_by_text("Name", exact=True).click()
    expect(page.locator("button.feature .feature-name").nth(1)).to_have_text("carrier")


def test_lanes_show_alarms_retrainings_and_promotions_on_the_time_axis(visitor: Visitor, year: Year) -> None:
    page = visitor.open("&table=events")
    promotions = sum(result.result == "promoted" for result in year.finished)
    expect(rows(page, "events")).to_have_count(len(year.alarms) + len(year.finished) + promotions)
    expect(rows(page, "events").filter(has_text="Retraining rejected")).to_have_count(2)
    rejected = next(result for result in year.finished if result.result == "rejected")
    page.mouse.move(*point_of(page, "events-plot", rejected.requested_at_ms, 0.5))
    text = page.locator("#event-text")
    expect(text).to_contain_text("Retraining rejected")
    expect(text).to_contain_text("is not below the champion's")
    expect(text).to_contain_text(day_text(rejected.requested_at_ms))
    promoted = [result for result in year.finished if result.result == "promoted"][2]
    page.mouse.move(*point_of(page, "events-plot", promoted.requested_at_ms + DAY_MS // 4, 0.85))
    expect(text).to_contain_text(f"v{promoted.version} live")


def test_keyboard_walks_over_windows_and_marks_and_says_where_it_is(visitor: Visitor, year: Year) -> None:
    page = visitor.open("&feature=temperature")
    page.locator("#drift-plot").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    before = next(drift for drift in year.reports[-2].features if drift.feature == "temperature")
    expect(page.locator("#announcer")).to_have_text(f"31 Dec 2013, 05:00 UTC: temperature {before.psi:.2f}")
    expect(page.locator("#drift-legend")).to_contain_text("31 Dec 2013, 05:00 UTC")
    expect(page.locator("#performance-legend")).to_contain_text("31 Dec 2013, 05:00 UTC")
    page.keyboard.press("Escape")
    expect(page.locator("#drift-legend")).to_contain_text("1 Jan 2014, 05:00 UTC")
    page.locator("#events-plot").focus()
    page.keyboard.press("Home")
    expect(page.locator("#announcer")).to_contain_text("Retraining promoted")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_drag_zooms_all_charts_and_double_click_resets(visitor: Visitor) -> None:
    page = visitor.open("&table=drift")
    expect(rows(page, "drift")).to_have_count(365)
    drag(page, "performance-plot", 0.5, 0.75)
    expect(page.locator("#range-text")).to_contain_text(
        re.compile(r"^[123] Jul 2013 to (30 Sep|[12] Oct) 2013")
    )
    assert "from=2013-07" in page.url
    expect(rows(page, "drift")).to_have_count(91)
    page.reload()
    expect(page.locator("#range-text")).to_contain_text("Jul 2013 to")
    expect(rows(page, "drift")).to_have_count(91)
    page.locator("#drift-plot .u-over").dblclick()
    expect(page.locator("#range-text")).to_have_text("1 Jan 2013 to 1 Jan 2014.")
    assert "from=" not in page.url
    page.get_by_role("button", name="30 days").click()
    expect(rows(page, "drift")).to_have_count(31)
    assert "last=30" in page.url


def test_every_chart_has_a_table_with_its_values(visitor: Visitor, year: Year) -> None:
    page = visitor.open("&feature=temperature")
    for name in ("drift", "events", "performance", "decisions", "costs"):
        button = page.locator(f"[data-table={name}]")
        expect(button).to_have_attribute("aria-expanded", "false")
        button.click()
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(page.locator(f"#{name}-table")).to_be_visible()
    last = year.reports[-1]
    temperature = next(drift for drift in last.features if drift.feature == "temperature")
    cells = rows(page, "drift").first.locator("th, td").all_text_contents()
    assert cells[0] == "1 Jan 2014 05:00"
    assert cells[2] == f"{temperature.psi:.2f}"
    cells = rows(page, "performance").first.locator("th, td").all_text_contents()
    weighed = sum((report.log_loss or 0) * report.labels for report in year.reports[-7:])
    assert cells[2] == f"{weighed / sum(report.labels for report in year.reports[-7:]):.3f}"
    assert cells[4:6] == [f"{last.log_loss:.3f}", f"{last.shadow_log_loss['frozen']:.3f}"]
    assert cells[7] == f"{0.5 * (last.log_loss or 0) + 0.23:.3f}", "estimated before the labels"
    assert cells[9:11] == [f"{last.labels:,}", f"{last.predictions:,}"]
    page.locator("[data-table=drift]").click()
    expect(page.locator("#drift-table")).to_be_hidden()


def test_a_threshold_is_moved_and_the_matrix_of_the_latest_windows_follows(
    visitor: Visitor, year: Year
) -> None:
    page = visitor.open("&table=decisions")
    expect(page.locator("#threshold-text")).to_have_text("0.4, as declared")
    for threshold in (0.4, 0.45):
        found = pooled(year, threshold)
        expect(page.locator("#matrix-text")).to_contain_text(f"{found.true_positives:,} were right")
        expect(page.locator("#matrix td")).to_have_text(
            [f"{count:,}" for count in (found[3], found[1], found[2], found[0])]
        )
        expect(page.locator("#decisions-legend")).to_contain_text(
            f"precision{100 * (found.precision or 0):.1f} %"
        )
        shares = [f"{100 * value:.1f} %" for value in found.figures.values() if value]
        cells = rows(page, "decisions").first.locator("td")
        version = year.reports[-1].version
        expect(cells).to_have_text([f"v{version}", *shares, *(f"{count:,}" for count in found)])
        page.locator("#threshold").focus()
        page.keyboard.press("ArrowRight")
    assert "threshold=0.5" in page.url
    page.reload()
    expect(page.locator("#threshold-text")).to_have_text("0.5 (declared: 0.4)")
    page.get_by_role("button", name="Reset to the declared threshold").click()
    expect(page.locator("#threshold-text")).to_have_text("0.4, as declared")
    assert "threshold=" not in page.url


def test_values_of_the_chosen_feature_are_beside_those_of_training(visitor: Visitor, year: Year) -> None:
    page = visitor.open("&feature=temperature")
    (found,) = (each.values for each in year.reports[-1].features if each.feature == "temperature")
    assert found is not None
    minus = str.maketrans("-", "\N{MINUS SIGN}")
    legend = page.locator("#values-legend")
    expect(legend).to_contain_text(f"median{found.quantiles[2]:.4g}".translate(minus))
    expect(legend).to_contain_text("median in training1")
    expect(legend).to_contain_text("\N{MINUS SIGN}7 to 9.5")
    page.locator("button.feature").filter(has_text="carrier").first.click()
    expect(page.locator("#values")).to_be_hidden()


def test_costs_add_up_and_are_compared_with_the_reference(visitor: Visitor, year: Year) -> None:
    page = visitor.open()
    last = year.performances[-1].cost
    assert last is not None
    assert last.saved is not None
    legend = page.locator("#costs-legend")
    expect(legend).to_contain_text(f"total{last.cumulative:,.0f}")
    expect(legend).to_contain_text(re.compile(f"saved{last.saved:,.0f}"))
    expect(legend).to_contain_text(f"reference{last.reference:.3f}")
    expect(page.locator("#costs-what")).to_contain_text("minutes for each prediction")
    page.locator("#saved-plot").focus()
    page.keyboard.press("Home")
    expect(page.locator("#announcer")).to_contain_text("saved \N{EN DASH}")  # no model yet


def pooled(year: Year, threshold: float) -> Confusion:
    """Return the sum of the confusion matrices of the latest seven windows."""
    found = [
        classification.at_threshold(report.thresholds, threshold, whole.positives, whole.negatives)
        for report in year.performances[-7:]
        for whole in report.segments
    ]
    return Confusion(*map(sum, zip(*found, strict=True)))


def test_theme_follows_the_system_until_one_is_chosen(visitor: Visitor) -> None:
    page = visitor.open(scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_text("Light", exact=True).click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light
    page.keyboard.press("t")
    assert page.evaluate(background) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == dark
    page.get_by_text("System", exact=True).click()
    assert page.evaluate(background) == light


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("dark", 390)])
def test_axe_finds_no_violation(visitor: Visitor, scheme: str, width: int) -> None:
    # Twenty days: over the rows of a year axe would take minutes.
    page = visitor.open(
        "&last=20&table=drift&table=events&table=performance&table=decisions&table=costs",
        width=width,
        scheme=scheme,
    )
    expect(rows(page, "events").first).to_be_visible()
    page.evaluate(AXE.read_text())
    assert violations(page) == []
    page.evaluate("document.getElementById('help').showModal()")
    assert violations(page) == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_report_of_a_window_has_no_violation_and_needs_no_scripts(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_page.as_html(harmed_window(27), scenario.declaration()), encoding="utf-8")
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, locale="en-US"
    )
    page = context.new_page()
    page.goto(path.as_uri())
    expect(page.get_by_text("The model's loss is above its limit")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text())
    assert violations(page) == []
    context.close()


def violations(page: Page) -> list[str]:
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{item['id']}: {node['target']} {node['failureSummary']}" for item in found for node in item["nodes"]
    ]


def test_narrow_screen_needs_no_sideways_scrolling(visitor: Visitor) -> None:
    page = visitor.open("&feature=temperature", width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for plot in PLOTS:
        box = page.locator(f"#{plot} canvas").bounding_box()
        assert box is not None
        assert 250 < box["width"] <= 390
    page.locator("button.feature").filter(has_text="humidity").click()
    expect(page.locator("#drift-legend")).to_contain_text("humidity")


def send_report(
    producer: KafkaProducer, model: str, day: int, feature: str = "temperature", psi: float = 0.5
) -> None:
    drift = FeatureDrift(
        feature=feature,
        psi=psi,
        statistic=0.1,
        p_value=0.01,
        threshold=0.25,
        drifted=psi > 0.25,
        missing_share=0.0,
    )
    report = DriftReport(
        report_id=f"{model}:{day}",
        model=model,
        version=1,
        window_start_ms=1_388_552_400_000 + (day - 365) * DAY_MS,
        window_end_ms=1_388_552_400_000 + (day - 364) * DAY_MS,
        predictions=900,
        labels=800,
        features=[drift],
        log_loss=0.5,
    )
    producer.send(topics.DRIFT.name, value=encode(report), key=model.encode())
    producer.flush()


def visit_model(visitor: Visitor, model: str) -> Page:
    page = visitor.open()
    page.goto(f"{visitor.url}/#model={model}")
    expect(page.locator("#model")).to_have_value(model)
    return page


def test_new_windows_appear_by_themselves_unless_paused(visitor: Visitor, producer: KafkaProducer) -> None:
    model = f"{MODEL}_live"
    send_report(producer, model, 1)
    wait_for_windows(visitor.url, 1, model)
    page = visit_model(visitor, model)
    expect(page.locator("#model-note")).to_contain_text("1 windows")
    send_report(producer, model, 2)
    expect(page.locator("#model-note")).to_contain_text("2 windows")
    page.keyboard.press("p")
    expect(page.locator("#link-text")).to_have_text("Paused")
    send_report(producer, model, 3)
    expect(page.locator("#pause")).to_have_text("Continue (1 new)")
    expect(page.locator("#model-note")).to_contain_text("2 windows")
    page.locator("#pause").click()
    expect(page.locator("#model-note")).to_contain_text("3 windows")


def test_names_from_the_wire_are_text_and_never_markup(visitor: Visitor, producer: KafkaProducer) -> None:
    model, attack = f"{MODEL}_attack", "<img src=x onerror=alert(1)>"
    send_report(producer, model, 1, feature=attack)
    alarm = DriftAlarm(
        alarm_id="attack",
        model=model,
        version=1,
        kind="feature",
        subject=attack,
        value=1,
        threshold=0,
        detected_at_ms=1_357_102_800_000,
        since_ms=0,
        message=attack,
    )
    producer.send(topics.DRIFT.name, value=encode(alarm), key=b"x")
    producer.flush()
    wait_for_windows(visitor.url, 1, model)
    page = visit_model(visitor, model)
    for button in page.locator("[data-table]:visible").all():
        button.click()
    expect(page.locator("#drift-legend")).to_contain_text(attack)
    expect(page.locator("#event-text")).to_contain_text(attack)
    assert page.locator("img").count() == 0


def test_lost_process_is_told_and_the_page_finds_back(
    browser: Browser, kafka: str, scoring_url: str, year: Year, producer: KafkaProducer, tmp_path: Path
) -> None:
    settings = make_settings(kafka, scoring_url)
    with Process("dashboard", settings, log=tmp_path / "log") as process:
        process.wait_ready()
        wait_for_windows(process.url, len(year.reports))
        visitor = Visitor(browser, process.url)
        page = visitor.open()
        code = process.stop()
        assert code == 0
        expect(page.locator("#link-text")).to_have_text("Disconnected")
        expect(page.locator("#notice")).to_contain_text("does not answer")
        expect(page.locator("#live-version")).to_have_text(re.compile(r"v\d+"))  # what was known stays
        process.start()
        process.wait_ready()
        expect(page.locator("#link-text")).to_have_text("Live")
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator("#model-note")).to_contain_text("365 windows")
        page.context.close()


def test_missing_kafka_and_scoring_are_told(browser: Browser, tmp_path: Path) -> None:
    settings = make_settings("127.0.0.1:1", "http://127.0.0.1:1")
    with Process("dashboard", settings, log=tmp_path / "log") as process:
        page = browser.new_context(locale="en-US").new_page()
        wait_until_live(process.url)
        page.goto(process.url)
        expect(page.locator("#notice")).to_contain_text("Kafka at 127.0.0.1:1 does not answer")
        expect(page.locator("#link-text")).to_have_text("Kafka lost")
        expect(page.locator("#processes")).to_have_text("Degraded")
        expect(page.locator("#rate-note")).to_have_text("scoring does not answer")
        expect(page.locator("#summary")).to_contain_text("Waiting for the first window")
        assert page.evaluate(AXE.read_text() + ";0") == 0
        assert violations(page) == []
        page.context.close()
        code = process.stop()
        assert code == 0
