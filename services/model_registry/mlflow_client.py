"""MLflow's registry: the client, and the names that every process shares."""

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

SIGNED_TAGS = ("driftline.digest", "driftline.flavour", "driftline.signature")
"""Tags of a version: what was registered, how it is loaded, and who vouches for both."""
REQUEST_TAG = "driftline.request_id"
"""Tag of runs and versions: the retraining request that made them."""

REQUEST_SECONDS_MAX = 15
"""Of silence, after which an attempt of a request counts as failed."""
REQUEST_RETRIES_MAX = 1
"""What does not load for this reason is tried again later, without holding a thread in between."""


class RegistryError(RuntimeError):
    """A version cannot be used. The message names model and version."""


@functools.cache
def connect(settings: Settings) -> Any:
    """Return an `mlflow.MlflowClient`. The first call imports MLflow, which takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's own bounds, 120 s and 7 retries, would hold a thread for a quarter of an hour.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS_MAX))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(REQUEST_RETRIES_MAX))
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


def experiment_id(client: Any, name: str) -> str:
    """Return the id of the experiment of this name, after making it if need be."""
    found = client.get_experiment_by_name(name)
    made: str = found.experiment_id if found else client.create_experiment(name)
    return made


def ensure_model(client: Any, model: str) -> None:
    """Make a registered model, unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


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
