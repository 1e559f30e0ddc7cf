"""The steps that make the training set: extract and validate."""

import msgspec
import numpy as np

from services.retraining import archive_progress, extraction, training_set, validation, validation_report
from services.retraining.gates import Leak
from services.retraining.run_folder import (
    CONTEXT,
    DATA,
    DATA_VERSION,
    DECLARATION,
    REQUEST,
    VALIDATION,
    VALIDATION_PAGE,
    RunFolder,
)
from services.retraining.steps.definition import Step
from services.retraining.training_set import DataDescription, TrainingSet
from services.retraining.validation_report import ValidationReport
from services.runtime.settings import Settings
from streams.feature_sets import FeatureSets


class ValidationResult(msgspec.Struct, frozen=True):
    """What a validation found."""

    report: ValidationReport
    dropped: list[int]
    """The bad rows, by their number in the training set."""
    leaks: list[Leak]


def extract(run: RunFolder, settings: Settings) -> None:
    """Wait for the archive, then write the rows of the training set to a Parquet file."""
    request, context = run.request, run.context
    if not context.tables:  # those that a version names are complete
        archive_progress.wait_for_archive(settings, request.model, context.offsets)
    wanted = extraction.Wanted(
        declaration=run.declaration,
        given=context.given,
        known_ms=request.requested_at_ms,
        sets=FeatureSets(context.feature_sets),
        definitions=context.definitions,
        change_ms=request.train_from_ms,
        tables=context.tables,
    )
    description = extraction.extract(settings, wanted, run.begin(DATA))
    run.finish(DATA)
    run.write(DATA_VERSION, description)


def validate(run: RunFolder, _settings: Settings) -> None:
    """Find the bad rows; raise `InvalidDataError` if a model must not be trained on the others.

    The report is written in both cases.
    """
    data = read_all(run)
    found = validation.check(data, run.declaration, run.request.requested_at_ms, run.context.reference)
    run.write_bytes(VALIDATION_PAGE, validation_report.as_html(found.report).encode())
    dropped = np.flatnonzero(~found.kept).tolist()
    run.write(VALIDATION, ValidationResult(found.report, dropped, list(found.leaks)))
    found.require()


def read_all(run: RunFolder) -> TrainingSet:
    """Return all rows of a run."""
    return training_set.read(run.path / DATA, run.read(DATA_VERSION, DataDescription))


def read(run: RunFolder) -> TrainingSet:
    """Return the training set of a run: the rows that are not bad."""
    data = read_all(run)
    kept = np.ones(len(data.rows), dtype=np.bool_)
    kept[run.read(VALIDATION, ValidationResult).dropped] = False
    return data.take(kept)


EXTRACT = Step("extract", (REQUEST, CONTEXT, DECLARATION), (DATA, DATA_VERSION), extract)
VALIDATE = Step(
    "validate", (REQUEST, CONTEXT, DECLARATION, DATA, DATA_VERSION), (VALIDATION, VALIDATION_PAGE), validate
)
