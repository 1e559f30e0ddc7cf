"""``driftline reproduce`` trains a version again; ``driftline data`` shows and writes training sets."""

import shutil
import tempfile
from pathlib import Path

from services.model_registry import mlflow_client
from services.model_registry.mlflow_client import RegistryError
from services.retraining.errors import RetrainingError
from services.runtime import thread_count
from services.runtime.command_output import fail, ok, say
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import Settings


def data() -> None:
    """List the versions of the declared models with the data that each was trained on."""
    settings = Settings()
    client = mlflow_client.connect(settings)
    for model in DeclarationFolder(settings.models).valid:
        found = client.search_model_versions(f"name='{model}'")
        for version in sorted(found, key=lambda each: int(each.version)):
            tags = client.get_run(version.run_id).data.tags if version.run_id else {}
            digest = tags.get("driftline.data.sha256", "")[:12]
            told = f"{tags['driftline.data.tables']}, digest {digest}" if digest else "its data is not known"
            say(f"{model} version {version.version}: {told}")


def get(model: str, *, version: int, output: Path) -> None:
    """Write the rows that a version was trained on as a Parquet file.

    Args:
        model: Declared model.
        version: Registered version.
        output: The file.
    """
    from services.retraining import reproduction  # late: imports NumPy, see `thread_count`
    from services.retraining.run_folder import DATA  # late: as above

    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="driftline-data-") as folder:
        try:
            run, known = reproduction.fetch(settings, model, version, Path(folder))
            found = reproduction.extract(run, settings)
        except (RegistryError, RetrainingError) as error:
            fail(str(error))
        shutil.copyfile(run.path / DATA, output)
    ok(f"wrote {found.version.rows} rows to {output}")
    if differences := reproduction.data_differences(known.data, found):
        fail(*differences)


def reproduce(model: str, *, version: int) -> None:
    """Train a version again from its data, code and declaration, and compare data and scores.

    One thread trains, as in the service. The exit code is 0 if both are the same.

    Args:
        model: Declared model.
        version: Registered version, made by a retraining.
    """
    thread_count.limit()
    from services.retraining import reproduction  # late: imports NumPy, see `thread_count`

    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="driftline-reproduce-") as folder:
        try:
            run, known = reproduction.fetch(settings, model, version, Path(folder))
            found = reproduction.extract(run, settings)
            differences = reproduction.data_differences(known.data, found)
            if differences:
                fail(*differences)
            ok(f"data: {found.version.rows} rows with the digest {found.version.sha256[:12]}")
            evaluation = reproduction.train(run, settings)
        except (RegistryError, RetrainingError) as error:
            fail(str(error))
    if differences := reproduction.score_differences(known.evaluation, evaluation):
        fail(*differences)
    ok(f"scores: {evaluation.held_out_rows} held-out rows have the same scores")
