"""``driftline drift report``: the report of a window, from the drift topic."""

import datetime as dt
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from services.settings import Settings


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

    from services import model as declarations
    from services.reports import evidently, page, reading
    from services.reports.history import NoWindowError

    if window is not None and latest:
        sys.exit("driftline drift report: give either --window or --latest")
    settings = Settings()
    try:
        declared = declarations.load_all(settings.models).get(model)
        found = reading.read(settings, model).window(None if window is None else time_ms(window))
    except (declarations.DeclarationError, NoWindowError, reading.ReportsError, ValueError) as error:
        sys.exit(f"driftline drift report: {model}: {error}")
    except KafkaError as error:
        sys.exit(f"driftline drift report: Kafka: {error}: try 'driftline check --connect'")
    if format == "html":
        text = page.as_html(found, declared)
    else:
        text = (page.as_json if format == "json" else evidently.as_snapshot)(found).decode()
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
        print(f"ok  {out}")  # noqa: T201  # the command's answer


def time_ms(text: str) -> int:
    """Read a day or a time, UTC where no offset is given; ValueError with what can be written.

    >>> time_ms("1970-01-02")
    86400000
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"cannot read the time {text!r}: write it as 2013-07-03 or 2013-07-03T12:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1000)
