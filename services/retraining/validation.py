"""Validation of a training set: bad rows are dropped and counted, a bad set stops the run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from services.monitoring.reference import CATEGORIES_MAX
from services.retraining import leak_search, reference_drift, validation_schemas
from services.retraining.errors import InvalidDataError
from services.retraining.gates import Leak
from services.retraining.validation_report import FeatureSummary, Finding, Level, ValidationReport
from services.runtime.declaration import ModelDeclaration
from streams.records import Reference

if TYPE_CHECKING:
    from services.retraining.training_set import TrainingSet

LABEL_SHARE_MIN = 0.005
"""Minimum share of the rarer class: below it the label is probably wrong and no metric is reliable."""
NULL_SHARE_MAX = 0.1
"""Maximum share of nulls of a feature without ``monitoring.quality.<feature>.null_share_max``."""
LABEL_RATIO_MAX = 2.0
"""Maximum ratio between the shares of label 1 here and in the reference, without a warning."""


@dataclasses.dataclass(frozen=True)
class Validation:
    """The result for one training set."""

    report: ValidationReport
    kept: npt.NDArray[np.bool_]
    """(n,) The rows that are not bad. All are kept if none is bad."""
    leaks: Sequence[Leak]
    """What the gate ``leakage`` judges."""

    def require(self) -> None:
        """Raise `InvalidDataError` with all faults, if there are any."""
        if self.report.faults:
            raise InvalidDataError("the training set cannot be used: " + "; ".join(self.report.faults))


def check(
    data: "TrainingSet", declaration: ModelDeclaration, known_ms: int, reference: Reference | None = None
) -> Validation:
    """Return which rows can be used, whether the set can, and a report for people.

    Bad rows: a label that the task does not have, or that was not known then; an id and event time for the
    second time; infinite numbers; values beyond ``monitoring.quality``. The set is refused if more than
    ``retraining.bad_rows_max`` of its rows are bad, if too few are left, if a class is too rare, or if a
    feature has more nulls than declared. Drift from the reference and leaks are warnings; leaks fail a gate.

    Args:
        data: n rows.
        declaration: The model's.
        known_ms: The event time of the request.
        reference: Of the serving champion; None: there is none.
    """
    bad = validation_schemas.bad_rows(data, declaration, known_ms)
    kept = np.ones(len(data.rows), dtype=np.bool_)
    for each in bad:
        kept[each.rows] = False
    left = (
        data if kept.all() else dataclasses.replace(data, rows=data.rows[kept], features=data.features[kept])
    )
    found_leaks = leak_search.leaks(left, declaration) if kept.any() else []
    drifts = reference_drift.of_features(left, reference) if reference is not None and kept.any() else {}
    shares = reference_drift.label_shares(left, declaration, reference) if kept.any() else {}
    findings = [
        *_of_rows(bad, kept, declaration),
        *_of_set(left, declaration, shares),
        *(Finding("warning", "leak", each.feature, f"{each.feature}: {each.text}") for each in found_leaks),
        *_of_drift(drifts, shares, declaration),
    ]
    report = ValidationReport(
        model=declaration.name,
        task=declaration.task,
        rows=len(kept),
        rows_dropped=int(np.count_nonzero(~kept)),
        bad_rows_max=declaration.retraining.bad_rows_max,
        findings=findings,
        features=_summaries(left, drifts),
        label_shares=shares,
    )
    return Validation(report, kept, found_leaks)


def validate(data: "TrainingSet", declaration: ModelDeclaration, known_ms: int) -> None:
    """Raise `InvalidDataError` with all bad rows and faults but nulls; for callers that drop no rows."""
    found = check(data, declaration, known_ms).report.findings
    refused = [
        each.text for each in found if each.level != "warning" and each.check not in ("bad_rows", "nulls")
    ]
    if refused:
        raise InvalidDataError("the training set cannot be used: " + "; ".join(refused))


def _of_rows(
    bad: Sequence[validation_schemas.BadRows], kept: npt.NDArray[np.bool_], declaration: ModelDeclaration
) -> Iterator[Finding]:
    for each in bad:
        level: Level = "dropped" if len(each.rows) else "fault"
        yield Finding(level, "row", each.column or "rows", str(each), len(each.rows))
    dropped, maximum = int(np.count_nonzero(~kept)), declaration.retraining.bad_rows_max
    if dropped > maximum * len(kept):
        text = (
            f"{dropped} of {len(kept)} rows are bad, but retraining.bad_rows_max is {maximum:g}: "
            + "; ".join(map(str, bad))
        )
        yield Finding("fault", "bad_rows", "rows", text, dropped)


def _of_set(
    data: "TrainingSet", declaration: ModelDeclaration, shares: Mapping[str, float]
) -> Iterator[Finding]:
    rows, wanted = len(data.rows), declaration.retraining.minimum_labels
    if rows < wanted:
        yield Finding(
            "fault", "minimum_labels", "rows", f"{rows} rows, but retraining.minimum_labels is {wanted}"
        )
    if rows:
        yield from _of_labels(data, declaration, shares)
    for name in validation_schemas.crowded(data):
        text = f"{name} has more than {CATEGORIES_MAX} categories: take it out of features"
        yield Finding("fault", "categories", name, text)
    for name in map(str, data.features.columns):
        bounds = declaration.monitoring.quality.get(name)
        declared = None if bounds is None else bounds.null_share_max
        maximum = NULL_SHARE_MAX if declared is None else declared
        share = float(data.features[name].isna().mean()) if rows else 0.0
        if share > maximum:
            text = f"{name} is null in {share:.1%} of the rows, at most {maximum:.0%} are expected: "
            text += f"mend its source, or declare monitoring.quality.{name}.null_share_max"
            yield Finding("fault", "nulls", name, text, round(share * rows))


def _of_labels(
    data: "TrainingSet", declaration: ModelDeclaration, shares: Mapping[str, float]
) -> Iterator[Finding]:
    if declaration.task == "regression":
        if data.rows["label"].nunique() == 1:
            yield Finding("fault", "label", "label", f"label: all {len(data.rows)} rows have the same value")
        return
    if declaration.task == "binary":
        share = shares["1"]
        if not LABEL_SHARE_MIN <= share <= 1 - LABEL_SHARE_MIN:
            expected = f"{LABEL_SHARE_MIN:.1%} to {1 - LABEL_SHARE_MIN:.1%}"
            text = f"label: {share:.2%} of the rows are positive; expected {expected}"
            yield Finding("fault", "label", "label", text)
        return
    absent = [name for name in declaration.class_names if not shares[name]]
    if absent:
        text = f"label: no row has the class {', '.join(absent)}: wait for such labels, or change classes"
        yield Finding("fault", "label", "label", text)


def _of_drift(
    drifts: Mapping[str, float], shares: Mapping[str, float], declaration: ModelDeclaration
) -> Iterator[Finding]:
    for name, psi in drifts.items():
        if psi > declaration.monitoring.psi_threshold:
            text = f"{name} differs from the champion's reference: its PSI is {psi:.2f}"
            yield Finding("warning", "drift", name, text)
    before = shares.get("reference 1")
    if before and not 1 / LABEL_RATIO_MAX < shares["1"] / before < LABEL_RATIO_MAX:
        text = f"label: {shares['1']:.2%} of the rows are positive, {before:.2%} in the champion's reference"
        yield Finding("warning", "drift", "label", text)


def _summaries(data: "TrainingSet", drifts: Mapping[str, float]) -> list[FeatureSummary]:
    rows = max(len(data.rows), 1)
    return [
        FeatureSummary(
            feature=name,
            kind="time" if name in data.times else "text" if name in data.text else "number",
            null_share=int(data.features[name].isna().sum()) / rows,
            values=int(data.features[name].nunique()),
            psi=drifts.get(name),
        )
        for name in map(str, data.features.columns)
    ]
