"""Files are downloaded from the registry's own artifacts or an object store, and from nowhere else."""

import pytest

from services.model_registry.artifact_location import LocationError, check

REGISTRY = "http://mlflow:5000"


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts:/1/run/artifacts/model",
        "mlflow-artifacts://mlflow:5000/1/run/artifacts/model",
        "s3://bucket/model",
        "gs://bucket/model",
        "abfss://container@account.dfs.core.windows.net/model",
    ],
)
def test_artifacts_of_the_registry_and_object_stores_are_read(uri: str) -> None:
    check(uri, REGISTRY)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/etc",
        "../models",
        "file:///etc",
        "FILE:///etc",
        "http://169.254.169.254/latest/meta-data",
        "https://mlflow:5000/model",
        "mlflow-artifacts://169.254.169.254/model",
        "mlflow-artifacts://mlflow:5001/model",
        "mlflow-artifacts://user@mlflow:5000/model",
        "ftp://mlflow/model",
        "sftp://mlflow/model",
        "models:/m/1",
        "runs:/run/model",
        "dummy:model",
    ],
)
def test_files_of_this_machine_and_other_addresses_are_not_read(uri: str) -> None:
    with pytest.raises(LocationError, match="neither an artifact of the registry nor in an object store"):
        check(uri, REGISTRY)
