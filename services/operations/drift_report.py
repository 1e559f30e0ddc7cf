"""``driftline drift report``: the report of a window, from the drift topic."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from services.monitoring.reports import evidently_snapshot, html_page, topic_reader
from services.monitoring.reports.history import NoWindowError
from services.monitoring.reports.topic_reader import ReportsError
from services.runtime import declaration_file, times
from services.runtime.command_output import fail, failing_on, ok
from services.runtime.declaration import DeclarationError
from services.runtime.settings import Settings

COMMAND = "driftline drift report"


def report(
    *,
    model: str,
    window: str | None = None,
    latest: Annotated[bool, Parameter(negative="")] = False,
    format_: Annotated[Literal["html", "json", "evidently"], Parameter(name="--format")] = "html",
    out: Path | None = None,
) -> None:
    """Write the report of a window: one page without scripts, or JSON, ours or Evidently's.

    Args:
        model: Name of the model.
        window: An event time (UTC) in the window, as 2013-07-03 or 2013-07-03T12:00.
        latest: Report of the latest window; this is the default.
        format_: html, json, or evidently: a snapshot that Evidently 0.7 loads.
        out: File to write; default: standard output.
    """
    if window is not None and latest:
        fail(f"{COMMAND}: give either --window or --latest")
    settings = Settings()
    with failing_on(COMMAND, DeclarationError, NoWindowError, ReportsError, ValueError, about=model):
        declared = declaration_file.load_all(settings.models).get(model)
        found = topic_reader.read(settings, model).window(None if window is None else times.time_ms(window))
    if format_ == "html":
        text = html_page.as_html(found, declared)
    else:
        text = (html_page.as_json if format_ == "json" else evidently_snapshot.as_snapshot)(found).decode()
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
        ok(str(out))
