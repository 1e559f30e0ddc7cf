"""`driftline models` on a real registry: a model of a notebook becomes a version that scoring would load."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from services.model_registry import loading, mlflow_client, model_inputs
from services.operations.models import versions_command
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from tests.flow.learning import World
from tests.unit.model_registry.installation import classifier, rows


@pytest.fixture
def name(kafka: str, mlflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A declared model with its feature plan, and the settings in the environment."""
    with World(kafka, mlflow, tmp_path) as world:
        made = world.model().name
        for variable, value in world.settings.environment().items():
            monkeypatch.setenv(variable, value)
        yield made


def test_model_of_a_notebook_becomes_a_version(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is signed, loads as in scoring, and answers as it did where it was trained."""
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(classifier()))
    rows().to_parquet(tmp_path / "rows.parquet")
    versions_command.register(
        name,
        model_uri=str(tmp_path / "model.pkl"),
        rows=tmp_path / "rows.parquet",
        allow_pickle=True,
    )
    versions_command.models()

    output = capsys.readouterr().out
    assert f"ok  registered {name} version 1" in output
    assert f"{name} version 1: signed, sklearn" in output
    settings = Settings()
    declaration = load_all(settings.models)[name]
    model = loading.load(settings, declaration, model_inputs.of_model(settings, declaration), 1)
    found = model.predict({"x": rows()["x"].to_numpy(), "noise": rows()["noise"].to_numpy()})
    assert np.array_equal(found, classifier().predict_proba(rows())[:, 1])


def test_version_of_another_registration_is_signed_anew(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stock MLflow registered is shown as refused, and taken over by its URI."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow_client.connect(Settings())
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            classifier(),
            name="stock",
            registered_model_name=name,
            signature=infer_signature(rows()),
            input_example=rows().head(20),
            pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
        )
    versions_command.models()
    assert f"{name} version 1: refused: it is not signed" in capsys.readouterr().out

    with pytest.raises(SystemExit, match="pass --allow-pickle"):
        versions_command.register(name, model_uri=f"models:/{name}/1")
    versions_command.register(name, model_uri=f"models:/{name}/1", allow_pickle=True)
    versions_command.models()
    assert f"{name} version 2: signed, sklearn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "uri", "message"),
    [
        ("nobody", "model.pkl", "there is no model 'nobody'; declared models: "),
        ("", "models:/absent/1", "cannot be read"),
    ],
)
def test_what_cannot_be_registered_ends_with_one_line(name: str, model: str, uri: str, message: str) -> None:
    """No stack trace, and nothing in the registry."""
    with pytest.raises(SystemExit, match=message):
        versions_command.register(model or name, model_uri=uri)
    assert mlflow_client.connect(Settings()).search_model_versions(f"name='{name}'") == []
