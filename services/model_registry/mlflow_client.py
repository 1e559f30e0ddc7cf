"""The client of MLflow's registry, and the names of aliases and tags."""

import functools
import importlib
import logging
import os
from typing import Any

from services.runtime.settings import Settings

PREVIOUS = "previous"
"""Alias of the champion before this one; the champion's own is `traffic_split.CHAMPION`."""
CHALLENGER = "challenger"
"""Alias of the latest candidate that a gate refused."""

DIGEST_TAG = "driftline.digest"
SIGNED_TAGS = (DIGEST_TAG, "driftline.flavour", "driftline.signature")
"""Tags of a version: the digest of its files, the flavour that loads it, and the signature of both."""
REFERENCE_TAG = "driftline.reference"
"""Tag of a version: whether it has a reference, ``yes`` or ``no``; older versions have none of it."""
REQUEST_TAG = "driftline.request_id"
"""Tag of runs and versions: the retraining request that made them."""

REQUEST_SECONDS_MAX = 15
"""Maximum time without a response, after which an attempt of a request has failed."""
REQUEST_RETRIES_MAX = 1
"""Maximum retries of a request. A version that does not load because the registry is down is loaded again
later, without blocking a thread until then."""


class RegistryError(RuntimeError):
    """A version cannot be used. The message names model and version, the fault and the remedy."""


@functools.cache
def connect(settings: Settings) -> Any:
    """Return an `mlflow.MlflowClient`. The first call imports MLflow, which takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's defaults, 120 s and 7 retries, would block a thread for 15 minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS_MAX))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(REQUEST_RETRIES_MAX))
    # It warns of a missing pip for each model.
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)
    import mlflow  # late: imports MLflow, 3 s

    _register_no_header_plugins()
    mlflow.set_tracking_uri(settings.mlflow_uri)
    return mlflow.MlflowClient(settings.mlflow_uri)


def version_of(client: Any, model: str, alias: str) -> int | None:
    """Return the version to which an alias points; None without such a model or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return int(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def experiment_id(client: Any, name: str) -> str:
    """Return the id of the experiment with this name; create it if it does not exist."""
    found = client.get_experiment_by_name(name)
    experiment: str = found.experiment_id if found else client.create_experiment(name)
    return experiment


def ensure_model(client: Any, model: str) -> None:
    """Create a registered model unless it exists."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _register_no_header_plugins() -> None:
    """Import MLflow's registry of request headers without the plugin that Feast installs.

    The plugin imports all of Feast at the first request (5 s), and in a pod it would send the service
    account's token to MLflow. MLflow itself sends a token in MLFLOW_TRACKING_TOKEN.
    """
    from mlflow.utils import plugins

    get_entry_points = plugins.get_entry_points
    plugins.get_entry_points = lambda group: []  # noqa: ARG005  # MLflow calls it by position and by name
    try:
        importlib.import_module("mlflow.tracking.request_header.registry")
    finally:
        plugins.get_entry_points = get_entry_points
