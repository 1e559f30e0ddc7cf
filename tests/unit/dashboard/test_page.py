"""The page, its API and its headers."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.dashboard import consumer, page
from services.dashboard.page_feed import Declared, PageFeed
from services.monitoring.reports import topic_reader
from services.monitoring.reports.history import WindowHistory
from services.runtime.settings import Settings
from tests.browser.synthetic_year import DAY_MS, START_MS, Year

DASHBOARD = Path(page.__file__).parent
DECLARED = Declared(owner="o", window_hours=24, psi_threshold=0.25, loss_tolerance=0.03, shadow="frozen")


@pytest.fixture
def feed():
    return PageFeed("broker:9092", {"m": DECLARED})


@pytest.fixture
def client(feed: PageFeed):
    return TestClient(page.application(feed, Settings()))


def play(feed: PageFeed, days: int, model: str = "m") -> Year:
    year = Year(model, days=days)
    for topic, value in year.records:
        feed.apply(consumer.DECODERS[topic](value))
    return year


def parse_events(text: str) -> list[tuple[str, str | None, Any]]:
    events = []
    for block in filter(str.strip, text.replace("\r\n", "\n").split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        events.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return events


def test_state_is_the_documented_document(feed: PageFeed, client: TestClient):
    year = play(feed, 60)
    document = client.get("/api/state").json()
    assert document.keys() == {"cursor", "bounds", "declared", "pulse", "models"}
    assert document["declared"]["m"]["psi_threshold"] == 0.25
    assert document["bounds"]["windows"] == 2000
    assert document["pulse"]["kafka"]["broker"] == "broker:9092"
    model = document["models"]["m"]
    assert model.keys() == {
        "features",
        "features_omitted",
        "arms",
        "windows",
        "cohorts",
        "alarms",
        "retrainings",
        "promotions",
        "references",
    }
    assert [window["window_id"] for window in model["windows"]] == [
        report.report_id for report in year.reports
    ]
    last = model["windows"][-1]
    drifts = {drift.feature: drift.psi for drift in year.reports[-1].features}
    assert dict(zip(model["features"], last["psi"], strict=True)) == pytest.approx(drifts, abs=1e-6)
    assert model["retrainings"][0]["trigger"] == "bootstrap"


def test_empty_state_is_valid(client: TestClient):
    document = client.get("/api/state").json()
    assert document["models"] == {}
    assert document["pulse"]["scoring"]["status"] == "unknown"


def test_stream_starts_with_snapshot_and_pulse(feed: PageFeed, client: TestClient):
    play(feed, 40)
    feed.closed = True  # the stream ends after one turn
    response = client.get("/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    (snapshot, pulse) = parse_events(response.text)
    assert (snapshot[0], pulse[0]) == ("snapshot", "pulse")
    assert snapshot[1] == snapshot[2]["cursor"]
    assert snapshot[2]["models"] == client.get("/api/state").json()["models"]


@pytest.mark.parametrize("cursor", ["other.3", "nonsense", "", "{epoch}.999999", "{epoch}.-1"])
def test_unknown_cursor_gets_a_snapshot(feed: PageFeed, client: TestClient, cursor: str):
    play(feed, 2)
    feed.closed = True
    headers = {"last-event-id": cursor.format(epoch=feed.epoch)}
    assert parse_events(client.get("/events", headers=headers).text)[0][0] == "snapshot"


def test_too_many_streams_are_refused(feed: PageFeed, client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page, "STREAMS_MAX", 0)
    assert client.get("/events").status_code == 503


def test_ended_stream_frees_its_slot(feed: PageFeed, client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page, "STREAMS_MAX", 1)
    feed.closed = True
    assert [client.get("/events").status_code for _ in range(3)] == [200, 200, 200]


def test_every_response_forbids_foreign_scripts_and_styles(feed: PageFeed, client: TestClient):
    feed.closed = True
    for path in ("/", "/api/state", "/events", "/static/page.js", "/health/live", "/nothing"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_page_has_no_inline_code_and_loads_only_own_files(client: TestClient):
    html = client.get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    links = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert links
    for link in links:
        assert link.startswith("/")
        assert client.get(link).status_code == 200


def test_broker_is_escaped():
    client = TestClient(page.application(PageFeed("<script>alert(1)</script>"), Settings()))
    assert "<script>alert" not in client.get("/").text


def test_static_files_do_not_leave_their_folder(client: TestClient):
    assert client.get("/static/../page.py").status_code == 404
    assert client.get("/static/%2e%2e/page.py").status_code == 404


def test_ready_after_the_topics_are_read_unless_kafka_is_lost(feed: PageFeed, client: TestClient):
    assert "reading the topics" in client.get("/health/ready").json()["reason"]
    feed.update_kafka(status="live")
    assert client.get("/health/ready").status_code == 200
    feed.update_kafka(status="lost", error="KafkaTimeoutError")
    assert "does not answer" in client.get("/health/ready").json()["reason"]


@pytest.mark.parametrize(
    "folder",
    [DASHBOARD / "static" / "vendor", Path(__file__).parents[2] / "browser" / "vendor"],
    ids=["page", "tests"],
)
def test_vendored_files_are_those_of_the_manifest(folder: Path):
    lines = (folder / "SHA256SUMS.txt").read_text().splitlines()
    pinned = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*/*")
        if path.is_file()
    }
    assert found == pinned


@pytest.fixture
def read_history(monkeypatch: pytest.MonkeyPatch) -> Year:
    """The drift topic of the model m."""
    year, history = Year("m", days=60), WindowHistory()
    for report in year.reports:
        history.add(report)
    monkeypatch.setattr(topic_reader, "read", lambda _, model: history if model == "m" else WindowHistory())
    return year


@pytest.mark.parametrize("window", ["latest", "2013-02-20", str(START_MS + 59 * DAY_MS)])
def test_report_of_a_window_is_a_page_with_only_its_own_style(
    client: TestClient, read_history: Year, window: str
):
    answer = client.get(f"/reports/m/{window}")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert " style=" not in answer.text


@pytest.mark.parametrize("path", ["/reports/m/2012-01-01", "/reports/m/nonsense", "/reports/other/latest"])
def test_missing_report_is_a_404_with_a_reason(client: TestClient, read_history: Year, path: str):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]
