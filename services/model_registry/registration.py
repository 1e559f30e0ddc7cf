"""Registration of a version: it is saved, verified by its golden batch and signed, then registered."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.feature_store.missing_values import with_missing
from services.model_registry import (
    flavours,
    folder_digest,
    format_choice,
    golden_batch,
    input_format,
    loading,
    mlflow_client,
    model_inputs,
    pyfunc_model,
    sealed_reference,
    signing,
)
from services.model_registry.contract import Contract, declared_fields
from services.model_registry.format_choice import AuthorRows
from services.model_registry.golden_batch import GoldenBatch
from services.model_registry.input_format import ColumnFormat, ColumnType, Formats, Marker
from services.model_registry.model_inputs import InputKind, Inputs
from services.model_registry.sealed_reference import MakeReference
from services.model_registry.sklearn_flavour import model as sklearn_model
from services.model_registry.sklearn_flavour.fitted_markers import markers_of
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE_ROWS = 3
"""Rows of the input example that MLflow shows."""
AUTHOR_ROWS_MAX = 2_000
"""Maximum rows of the author on which a version is proved: as many as a large batch."""
FOLDER = "model"
"""Folder of a version's files, among the artifacts of its run."""

Tags = dict[str, str]


def seal_estimator(
    settings: Settings,
    declaration: ModelDeclaration,
    given: Inputs,
    estimator: Any,
    rows: "pd.DataFrame",
    folder: Path,
    make_reference: MakeReference | None = None,
) -> Tags:
    """Save a scikit-learn estimator into a new folder; return the tags that its version needs.

    Args:
        settings: The signing key and the trusted types.
        declaration: The model's declaration.
        given: The inputs that are served to the model.
        estimator: The fitted estimator, whose outputs the version must repeat.
        rows: Inputs as its author has them, with the model's columns in order.
        folder: The folder for the version's files.
        make_reference: Makes its reference; None: it has none.

    Raises `InputsError`, `ContractError` or `GoldenError` for a model that could not be served.
    """
    kinds = {name: given.get(name, kind) for name, kind in model_inputs.of_frame(rows).items()}
    model_inputs.check(kinds, given)
    author = sklearn_model.SklearnModel(estimator, Contract(settings, declaration, kinds))
    markers = markers_of(estimator, list(kinds))
    known = _author_rows(declaration, kinds, format_choice.marked(_some(rows), markers))
    formats: Formats = {name: _first_format(known, name, markers) for name in kinds}
    expected = format_choice.author_outputs(author, known.frame)
    formats = format_choice.choose(author, known, formats, expected)
    formats = format_choice.decide_missing(author, known, formats, _undecided(declaration, known, markers))
    complete = known.frame.dropna()
    examples = (complete if len(complete) else known.frame).head(EXAMPLE_ROWS)
    sklearn_model.save(estimator, formats, examples, folder, settings)
    version = _Version(declaration, given, sklearn_model.FLAVOUR, formats, make_reference)
    return _seal(settings, version, GoldenBatch(known.columns, expected), folder)


def seal_pyfunc(
    settings: Settings,
    declaration: ModelDeclaration,
    given: Inputs,
    rows: "pd.DataFrame",
    folder: Path,
    make_reference: MakeReference | None = None,
) -> Tags:
    """Complete the folder of an MLflow model, which runs its code; return the tags of its version.

    Its inputs get the types of its signature. Raises the errors of `seal_estimator`.
    """
    wanted = model_inputs.signature(folder)
    model_inputs.check(wanted, given)
    author: Any = flavours.load(pyfunc_model.FLAVOUR, folder, Contract(settings, declaration, wanted))
    kinds = {name: given[name] for name in wanted}
    model_inputs.check_columns(rows, list(wanted))
    known = _author_rows(declaration, kinds, _some(rows[list(wanted)]))
    formats = pyfunc_model.formats_of(folder, known.frame)
    expected = format_choice.typed_outputs(author, known, formats)
    undecided = _undecided(declaration, known, {})
    formats = format_choice.decide_missing(
        author, known, formats, {name for name in undecided if formats[name].marker is not Marker.REFUSED}
    )
    version = _Version(declaration, given, pyfunc_model.FLAVOUR, formats, make_reference)
    return _seal(settings, version, GoldenBatch(known.columns, expected), folder)


def _some(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Return at most `AUTHOR_ROWS_MAX` rows, with each column's missing values among them."""
    missing = {str(name): rows[name].isna().to_numpy() for name in rows}
    some = rows.iloc[golden_batch.chosen(missing, len(rows), AUTHOR_ROWS_MAX)]
    return some.rename(columns=str)


def _author_rows(declaration: ModelDeclaration, kinds: Inputs, frame: "pd.DataFrame") -> AuthorRows:
    return AuthorRows(frame, model_inputs.columns_of(frame, kinds), kinds, declared_fields(declaration))


def _first_format(known: AuthorRows, name: str, markers: Mapping[str, Any]) -> ColumnFormat:
    """Return the simplest format of an input with the missing value that the estimator or its rows show."""
    kind, column = known.kinds[name], known.frame[name]
    if name in markers:
        return format_choice.marker_of(kind, markers[name])
    if kind is InputKind.TEXT and column.isna().any():
        return format_choice.marker_of(kind, format_choice.marker_in(column))
    if kind is InputKind.TIME and column.dtype.kind != "M":
        return ColumnFormat(ColumnType.STRING, Marker.NONE)
    return input_format.as_served({name: kind})[name]


def _undecided(declaration: ModelDeclaration, known: AuthorRows, markers: Mapping[str, Any]) -> set[str]:
    """Return the texts that may be missing, though neither the estimator nor its rows show how."""
    return {
        name
        for name, kind in known.kinds.items()
        if kind is InputKind.TEXT
        and name not in markers
        and not known.frame[name].isna().any()
        and model_inputs.may_be_missing(declaration, name)
    }


@dataclasses.dataclass(frozen=True)
class _Version:
    """What is known of a version besides its files."""

    declaration: ModelDeclaration
    given: Inputs
    flavour: str
    formats: Formats
    make_reference: MakeReference | None


def _seal(settings: Settings, version: _Version, proof: GoldenBatch, folder: Path) -> Tags:
    """Complete the folder, load it as scoring does, prove it on the author's rows, and sign it.

    The loaded model makes the reference.
    """
    input_format.write(folder, version.formats)
    missing, count = with_missing(proof.columns)[1], len(proof.outputs)
    batch = proof.take(golden_batch.chosen(missing, count, golden_batch.ROWS_MAX))
    golden_batch.write(folder, batch)
    declaration, flavour = version.declaration, version.flavour
    loaded = loading.open_folder(settings, declaration, version.given, flavour, folder)
    golden_batch.prove(proof, batch, loaded.model)
    sealed_reference.remove(folder)
    if version.make_reference is not None:
        wanted = {name: version.given[name] for name in version.formats}
        sealed_reference.write(folder, version.make_reference(loaded.model, wanted))
    statement = signing.Statement(declaration.name, flavour, folder_digest.digest(folder))
    signature = signing.sign(settings, statement)
    signing.verify(settings, statement, signature)  # so that an untrusted key is found here, not in scoring
    values = (statement.digest, statement.flavour, signature)
    with_reference = "no" if version.make_reference is None else "yes"
    return {
        **dict(zip(mlflow_client.SIGNED_TAGS, values, strict=True)),
        mlflow_client.REFERENCE_TAG: with_reference,
    }


def register(settings: Settings, model: str, folder: Path, tags: Mapping[str, str]) -> int:
    """Upload a sealed folder in a new MLflow run; return the new version."""
    client = mlflow_client.connect(settings)
    run = client.create_run(mlflow_client.experiment_id(client, model))
    client.log_artifacts(run.info.run_id, str(folder), FOLDER)
    version = create(client, model, run.info, tags)
    client.set_terminated(run.info.run_id)
    return version


def create(client: Any, model: str, run: Any, tags: Mapping[str, str]) -> int:
    """Register the files in a run's artifacts as a version; return its number."""
    mlflow_client.ensure_model(client, model)
    version = client.create_model_version(
        model,
        source=f"{run.artifact_uri}/{FOLDER}",
        run_id=run.run_id,
        tags=dict(tags),
        await_creation_for=0,
    )
    return int(version.version)
