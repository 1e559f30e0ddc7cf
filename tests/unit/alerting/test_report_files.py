"""Report files: their names, where they are written, and the bound of the queue."""

import threading

from structlog.testing import capture_logs

from services.alerting import report_files
from services.alerting.report_files import ReportWriter
from services.monitoring.reports import topic_reader
from services.runtime.settings import Settings
from tests.waiting import LIVENESS_SECONDS


def test_name_contains_model_and_start_of_the_window():
    assert report_files.name_of("m", 86_400_000) == "m/1970-01-02T0000.html"


def test_file_is_written_below_a_folder_and_replaced(tmp_path):
    report_files.write(str(tmp_path), "m/1970.html", "old")
    report_files.write(str(tmp_path), "m/1970.html", "new")
    assert (tmp_path / "m" / "1970.html").read_text() == "new"


def test_file_is_written_below_a_uri(tmp_path):
    report_files.write(tmp_path.as_uri(), "m/1970.html", "text")
    assert (tmp_path / "m" / "1970.html").read_text() == "text"


def test_without_a_uri_nothing_is_queued_or_read(monkeypatch):
    monkeypatch.setattr(topic_reader, "read", lambda *_: (_ for _ in ()).throw(AssertionError("read")))
    writer = ReportWriter(Settings().model_copy(update={"reports_uri": ""}), {})
    for start_ms in range(report_files.WAITING_MAX + 1):
        writer.add("m", start_ms)
    writer.close()


def test_defect_over_one_model_does_not_end_the_reports_of_others(monkeypatch, tmp_path):
    read: list[str] = []
    last = threading.Event()

    def fail(_: Settings, model: str) -> None:
        read.append(model)
        if model == "second":
            last.set()
        raise KeyError("a defect")

    monkeypatch.setattr(topic_reader, "read", fail)
    writer = ReportWriter(Settings().model_copy(update={"reports_uri": str(tmp_path)}), {})
    with capture_logs():
        writer.add("first", 0)
        writer.add("second", 0)
        assert last.wait(LIVENESS_SECONDS)
        writer.close()
    assert read == ["first", "second"]


def test_full_queue_drops_windows_and_waits_for_nothing(monkeypatch, tmp_path):
    """The thread is held in its first read; further windows only fill the queue."""
    reading, release = threading.Event(), threading.Event()
    read: list[str] = []

    def hold(_: Settings, model: str) -> None:
        read.append(model)
        reading.set()
        release.wait(LIVENESS_SECONDS)
        raise topic_reader.ReportsError("the test ends here")

    monkeypatch.setattr(topic_reader, "read", hold)
    monkeypatch.setattr(report_files, "WAITING_MAX", 2)
    writer = ReportWriter(Settings().model_copy(update={"reports_uri": str(tmp_path)}), {})
    writer.add("first", 0)
    assert reading.wait(LIVENESS_SECONDS)
    for start_ms in range(5):
        writer.add("later", start_ms)
    release.set()
    writer.close()
    assert read[0] == "first"
    assert set(read) <= {"first", "later"}
