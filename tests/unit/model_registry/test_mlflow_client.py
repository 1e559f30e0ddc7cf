"""Questions to MLflow's registry whose refusal is an answer."""

from typing import Any

import pytest
from mlflow.exceptions import MlflowException, RestException

from services.model_registry import mlflow_client


class Client:
    """Raises one error at every request, or knows one version."""

    def __init__(self, code: str | None = None) -> None:
        self.code = code

    def get_model_version_by_alias(self, _model: str, _alias: str) -> Any:
        self._raise()
        return type("Version", (), {"version": "7"})

    def create_registered_model(self, _model: str) -> None:
        self._raise()

    def _raise(self) -> None:
        if self.code:
            raise RestException({"error_code": self.code, "message": "m"})


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"])
def test_an_alias_that_is_not_there_has_no_version(code: str) -> None:
    assert mlflow_client.version_of(Client(), "m", "champion") == 7
    assert mlflow_client.version_of(Client(code), "m", "champion") is None


def test_other_errors_are_raised() -> None:
    with pytest.raises(MlflowException):
        mlflow_client.version_of(Client("INTERNAL_ERROR"), "m", "champion")
    with pytest.raises(MlflowException):
        mlflow_client.ensure_model(Client("PERMISSION_DENIED"), "m")


def test_a_model_that_exists_is_left_as_it_is() -> None:
    mlflow_client.ensure_model(Client("RESOURCE_ALREADY_EXISTS"), "m")
