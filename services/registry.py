"""MLflow's registry: names that every process shares, and versions loaded without running code of theirs."""

import functools
import hashlib
import importlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from services.settings import Settings

CHAMPION = "champion"
PREVIOUS = "previous"
"""Alias of the champion before this one."""
CHALLENGER = "challenger"
"""Alias of the latest candidate that a gate refused."""

DIGEST_TAG = "driftline.model_sha256"
"""Tag of a version: the digest of its model file as it was registered."""
REQUEST_TAG = "driftline.request_id"
"""Tag of runs and versions: the retraining request that made them."""
MODEL_FILE = "model.skops"

TRUSTED_TYPES = (
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
"""What a model file may hold beyond skops' own list; skops audits every nested type as well.
The list is ours, not the model's: MLflow's loader takes it from the very file that it should guard against.
TreePredictor indexes without bounds checks, hence the digest."""


class RegistryError(RuntimeError):
    """A version cannot be used. The message names model and version."""


@functools.cache
def connect(settings: Settings) -> Any:
    """Return an `mlflow.MlflowClient`. The first call imports MLflow, which takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("mlflow.utils.environment").setLevel(
        logging.ERROR
    )  # warns of a missing pip at each model
    import mlflow

    _register_no_header_plugins()
    mlflow.set_tracking_uri(settings.mlflow_uri)
    return mlflow.MlflowClient(settings.mlflow_uri)


def version_of(client: Any, model: str, alias: str) -> int | None:
    """Return the version that an alias names, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None  # no such model, or no such alias
        raise


def load(client: Any, model: str, version: int) -> Any:
    """Load one version, a scikit-learn estimator, after its digest and its types were checked.

    Blocks for some 100 ms. Raises `RegistryError` when the file is not the one that was registered or
    holds types beyond `TRUSTED_TYPES`.
    """
    import mlflow.artifacts
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    registered = client.get_model_version(model, str(version))
    with tempfile.TemporaryDirectory(prefix="driftline-model-") as folder:
        uri = f"models:/{model}/{version}/{MODEL_FILE}"
        path = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=client.tracking_uri)
        if digest(path) != registered.tags.get(DIGEST_TAG):
            raise RegistryError(
                f"{model} version {version}: the model file does not have the digest of its tag "
                f"{DIGEST_TAG}; it was changed after it was registered, or registered by other means"
            )
        try:
            return skops.io.load(path, trusted=list(TRUSTED_TYPES))
        except UntrustedTypesFoundException as error:
            raise RegistryError(f"{model} version {version}: {error}") from error


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _register_no_header_plugins() -> None:
    """Import MLflow's registry of request headers without the plugin that Feast brings.

    That plugin imports all of Feast at the first request (5 s), and in a pod it would send the service
    account's token to MLflow. A token in MLFLOW_TRACKING_TOKEN is sent by MLflow itself.
    """
    from mlflow.utils import plugins

    every = plugins.get_entry_points
    plugins.get_entry_points = lambda group: []  # noqa: ARG005  # MLflow calls it by position and by name
    try:
        importlib.import_module("mlflow.tracking.request_header.registry")
    finally:
        plugins.get_entry_points = every
