"""``driftline drift report``: the report of a window, from the drift topic."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from services.runtime import times
from services.runtime.settings import Settings


def report(
    *,
    model: str,
    window: str | None = None,
    latest: Annotated[bool, Parameter(negative="")] = False,
    format: Literal["html", "json", "evidently"] = "html",  # noqa: A002  # the name of the option
    out: Path | None = None,
) -> None:
    """Write the report of a window: one page without scripts, or JSON, ours or Evidently's.

    Args:
        model: Of this model.
        window: The one that holds this event time (UTC), as 2013-07-03 or 2013-07-03T12:00.
        latest: The latest one, which is also the default.
        format: html, json, or evidently: a snapshot that Evidently 0.7 loads.
        out: The file; default: standard output.
    """
    from kafka.errors import KafkaError

    from services.monitoring.reports import evidently_snapshot, html_page, topic_reader
    from services.monitoring.reports.history import NoWindowError
    from services.runtime import declaration_file
    from services.runtime.declaration import DeclarationError

    if window is not None and latest:
        sys.exit("driftline drift report: give either --window or --latest")
    settings = Settings()
    try:
        declared = declaration_file.load_all(settings.models).get(model)
        found = topic_reader.read(settings, model).window(None if window is None else times.time_ms(window))
    except (DeclarationError, NoWindowError, topic_reader.ReportsError, ValueError) as error:
        sys.exit(f"driftline drift report: {model}: {error}")
    except KafkaError as error:
        sys.exit(f"driftline drift report: Kafka: {error}: try 'driftline check --connect'")
    if format == "html":
        text = html_page.as_html(found, declared)
    else:
        text = (html_page.as_json if format == "json" else evidently_snapshot.as_snapshot)(found).decode()
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
        print(f"ok  {out}")  # noqa: T201  # the command's answer
