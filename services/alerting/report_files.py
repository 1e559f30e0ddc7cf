"""Writes the report of each closed window to a folder or an object store: ``DRIFTLINE_REPORTS_URI``.

A report is made from the drift topic alone, so writing a file again gives the same file.
"""

import contextlib
import posixpath
import queue
import threading
from collections.abc import Mapping

import structlog

from services.monitoring.reports import html_page, topic_reader
from services.monitoring.reports.history import NoWindowError
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import codec
from streams.outages import is_outage

WAITING_MAX = 1000
"""Maximum windows in the queue; further ones get no file, only their records on the topic."""

_EXPECTED = (NoWindowError, topic_reader.ReportsError)
_log = structlog.get_logger()


class ReportWriter:
    """A thread that writes report files; nothing waits for it."""

    def __init__(self, settings: Settings, declarations: Mapping[str, ModelDeclaration]) -> None:
        """Start the thread if a URI for reports is set; `close` ends it."""
        self._settings = settings
        self._declarations = declarations
        self._waiting: queue.Queue[tuple[str, int] | None] = queue.Queue(WAITING_MAX)
        if settings.reports_uri:
            threading.Thread(target=self._run, name="reports", daemon=True).start()

    def add(self, model: str, start_ms: int) -> None:
        """Queue the report of a window."""
        if self._settings.reports_uri:
            try:
                self._waiting.put_nowait((model, start_ms))
            except queue.Full:
                _log.warning("alerting.report_not_written", model=model, reason="too many reports wait")

    def close(self) -> None:
        """End the thread after the window that it is writing."""
        while self._others():  # queued windows are written after the next start
            pass
        self._waiting.put(None)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            wanted: dict[str, set[int]] = {}
            for model, start_ms in [first, *self._others()]:
                wanted.setdefault(model, set()).add(start_ms)
            for model, starts_ms in wanted.items():
                try:
                    self._write(model, starts_ms)
                except Exception as error:  # noqa: BLE001  # the reports of other models continue
                    is_expected = is_outage(error) or isinstance(error, _EXPECTED)
                    report = _log.warning if is_expected else _log.exception
                    report("alerting.report_not_written", model=model, reason=repr(error))

    def _others(self) -> list[tuple[str, int]]:
        """Return all other queued windows, so that one pass over the topic serves them all."""
        found: list[tuple[str, int]] = []
        with contextlib.suppress(queue.Empty):
            while (each := self._waiting.get_nowait()) is not None:
                found.append(each)
            self._waiting.put_nowait(None)  # the end is for the loop
        return found

    def _write(self, model: str, starts_ms: set[int]) -> None:
        history = topic_reader.read(self._settings, model)
        for start_ms in sorted(starts_ms):
            html = html_page.as_html(history.window(start_ms), self._declarations.get(model))
            write(self._settings.reports_uri, name_of(model, start_ms), html)


def name_of(model: str, start_ms: int) -> str:
    """Return the name of a report's file below the URI.

    >>> name_of("m", 0)
    'm/1970-01-01T0000.html'
    """
    return f"{model}/{codec.EPOCH + start_ms * codec.MILLISECOND:%Y-%m-%dT%H%M}.html"


def write(uri: str, name: str, text: str) -> None:
    """Write a file below a folder, or below a URI that pyarrow supports (s3://, gs://, file://)."""
    from pathlib import Path

    from pyarrow import fs

    if "://" not in uri:
        uri = Path(uri).resolve().as_uri()
    store, root = fs.FileSystem.from_uri(uri)
    path = posixpath.join(root, name)
    store.create_dir(posixpath.dirname(path), recursive=True)
    with store.open_output_stream(path) as stream:
        stream.write(text.encode())
