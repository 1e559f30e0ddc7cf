"""The registry's own refusals are told from its absence, also behind a gateway."""

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from services.model_registry import mlflow_client
from tests.unit.model_registry.installation import settings

NOT_FOUND = MlflowException("not found", error_code=RESOURCE_DOES_NOT_EXIST)


@pytest.mark.parametrize(
    ("error", "is_away"),
    [
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such version"}), False),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "not yours"}), False),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE"}), True),
        (RestException({"detail": "no route"}), True),
        (NOT_FOUND, True),  # as for the page of a gateway with the status 404
        (MlflowException("connection refused"), True),
        (ConnectionError("refused"), True),
        (KeyError("a defect"), False),
    ],
)
def test_a_registry_over_http_is_away_unless_it_has_answered(tmp_path: Path, error, is_away):
    subject = settings(tmp_path, mlflow_uri="http://127.0.0.1:1")
    assert mlflow_client.is_away(subject, error) is is_away


def test_a_registry_in_a_file_answers_by_itself(tmp_path: Path):
    subject = settings(tmp_path, mlflow_uri="sqlite:///registry.db")
    assert not mlflow_client.is_away(subject, NOT_FOUND)
