"""The digest of a version's files, as its tag in the registry says; loading verifies it."""

from collections.abc import Sequence

from services.model_registry import approvals, mlflow_client
from services.runtime.settings import Settings
from streams.records import LedgerEntry


def of_version(settings: Settings, model: str, version: int) -> str:
    """Return the digest of a version; empty if the registry has no such version, or it has no digest.

    Raises:
        MlflowException: The registry cannot be reached.
    """
    from mlflow.exceptions import MlflowException  # late: imports MLflow, 3 s

    try:
        found = mlflow_client.connect(settings).get_model_version(model, str(version))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return ""
    return str(found.tags.get(mlflow_client.DIGEST_TAG, ""))


def of_decided(settings: Settings, entries: Sequence[LedgerEntry], model: str, version: int) -> str:
    """Return the digest of a version as `of_version` if a decision names one; empty otherwise."""
    return of_version(settings, model, version) if approvals.is_bound(entries, model, version) else ""
