"""The report of a validation, as JSON and as one self-contained HTML page."""

from pathlib import Path
from typing import Literal

import jinja2
import msgspec

from services.monitoring.reports.html_page import STYLE

_FOLDER = Path(__file__).parent / "templates"


Level = Literal["fault", "dropped", "warning"]
"""A ``fault`` stops the run, ``dropped`` rows are left out, a ``warning`` is for people and gates."""


class Finding(msgspec.Struct, frozen=True):
    """Something that the validation of a training set found."""

    level: Level
    check: str
    """Of what: ``row``, ``bad_rows``, ``minimum_labels``, ``label``, ``categories``, ``nulls``, ``leak``,
    ``drift``."""
    subject: str
    """A column, or ``rows``."""
    text: str
    rows: int = 0


class FeatureSummary(msgspec.Struct, frozen=True):
    """What a training set holds of one feature."""

    feature: str
    kind: Literal["number", "text", "time"]
    null_share: float
    values: int
    """Number of different values."""
    psi: float | None = None
    """Population stability index against the champion's reference; null without one."""


class ValidationReport(msgspec.Struct, frozen=True):
    """What validation found in one training set."""

    model: str
    task: str
    rows: int
    rows_dropped: int
    bad_rows_max: float
    """The declared maximum share of dropped rows."""
    findings: list[Finding]
    features: list[FeatureSummary]
    label_shares: dict[str, float] = {}
    """See `services.retraining.reference_drift.label_shares`; empty for a regression."""

    @property
    def faults(self) -> list[str]:
        """What stops the run, a sentence each."""
        return [each.text for each in self.findings if each.level == "fault"]

    @property
    def passed(self) -> bool:
        """Whether a model may be trained on the rows that are left."""
        return not self.faults


def as_json(report: ValidationReport) -> bytes:
    """Return the report for programs, with whether it passed."""
    document = {"passed": report.passed, **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def as_html(report: ValidationReport) -> str:
    """Return the report as a page, without scripts, fonts or links."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("validation.html").render(report=report, style=STYLE)
