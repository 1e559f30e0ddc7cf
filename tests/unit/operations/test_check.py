"""`driftline check` names every fault with its place, and asks the servers when told to."""

import socket
from pathlib import Path

import pytest

from services.feature_store import repository
from services.feature_store.plan import (
    Column,
    FeaturePlan,
    PlanError,
    ServiceFeature,
    ValueType,
    View,
    ViewKind,
)
from services.operations import check as command
from services.operations import project_check, server_probes
from services.runtime.settings import ROOT, Settings

GOOD = (ROOT / "models" / "arrival_delay" / "model.yaml").read_text(encoding="utf-8")

FEATURES = (
    "temp",
    "dewp",
    "carrier_delay_mean_3h",
    "aircraft_delay_last_16h",
    "dest_delay_mean_3h",
    "carrier_arrival_delay_mean_3h",
    "pressure",
    "wind_gust",
    "year_built",
    "seats",
)
VIEW = View(
    "weather",
    ViewKind.BATCH,
    (Column("origin", ValueType.STRING),),
    tuple(Column(name, ValueType.DOUBLE) for name in FEATURES),
    0,
)
PLAN = FeaturePlan(
    "p", (VIEW,), {"arrival_delay": tuple(ServiceFeature("weather", name) for name in FEATURES)}
)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models, to which the settings point."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTLINE_MODELS", str(folder))
    monkeypatch.setattr(repository, "checked", lambda _: PLAN)  # Feast takes seconds to import
    return folder


def declare(models: Path, name: str, text: str) -> Path:
    path = models / name / "model.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    (path.parent / "training.py").write_text("def estimator(categorical, numeric): ...\n")
    return path


def failed(*, connect: bool = False) -> list[str]:
    """Return the lines of the fault; Python prints a text on standard error and exits with 1."""
    with pytest.raises(SystemExit) as ended:
        command.check(connect=connect)
    assert isinstance(ended.value.code, str)
    return ended.value.code.splitlines()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_sound_declaration_is_summed_up_with_its_topics(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(models, "arrival_delay", GOOD)
    command.check()
    out = capsys.readouterr().out
    assert "arrival_delay: flights.scheduled -> driftline.predictions.arrival_delay" in out
    assert "flights.arrived" in out


def test_all_faults_of_all_models_are_reported_at_once(models: Path) -> None:
    first = declare(
        models,
        "arrival_delay",
        GOOD.replace("task: binary", "task: ordinal").replace("carrier: string", "carrier: text"),
    )
    second = declare(models, "other", GOOD)
    faults = failed()
    assert sum(fault.startswith(f"{first}:") for fault in faults) == 2
    assert any(
        fault.startswith(f"{second}:2:1: name: is 'arrival_delay', but the folder is 'other'")
        for fault in faults
    )


def test_a_name_that_is_no_feature_is_found_with_its_place(models: Path) -> None:
    path = declare(models, "arrival_delay", GOOD.replace("    dewp: [month]", "    dewpoint: [month]"))
    line = path.read_text().splitlines().index("    dewpoint: [month]") + 1
    assert failed() == [
        f"{path}:{line}:5: monitoring.season.dewpoint: 'dewpoint' is not a feature (did you mean dewp?)"
    ]


def test_training_code_that_does_not_fit_is_found(models: Path) -> None:
    path = declare(models, "arrival_delay", GOOD).parent / "training.py"
    path.write_text("def estimator(): ...\n")
    (fault,) = failed()
    assert fault.startswith(f"{path}:1:1: estimator must take two arguments")


def test_a_repository_that_cannot_be_compiled_is_a_fault(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Settings) -> FeaturePlan:
        raise PlanError("feature_repo: NameError: name 'Entity' is not defined")

    monkeypatch.setattr(repository, "checked", broken)
    declare(models, "arrival_delay", GOOD)
    assert failed() == ["feature_repo: NameError: name 'Entity' is not defined"]


def test_a_folder_without_models_says_what_a_model_is(models: Path) -> None:
    (fault,) = failed()
    assert fault.startswith(f"{models}: no model found; a model is a folder that holds a model.yaml; ")
    assert "DRIFTLINE_MODELS" in fault


def test_a_misspelt_variable_is_named_with_the_nearest_one(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(models, "arrival_delay", GOOD)
    monkeypatch.setenv("DRIFTLINE_BROKERS", "kafka:9092")
    assert failed() == ["DRIFTLINE_BROKERS: unknown setting (did you mean DRIFTLINE_BROKER?)"]


def test_invalid_settings_are_named_by_their_variables_without_their_values(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_PARTITIONS", "s3cret")
    monkeypatch.setenv("DRIFTLINE_LOG_LEVEL", "loud")
    faults = failed()
    assert [fault.split(":")[0] for fault in faults[:2]] == ["DRIFTLINE_PARTITIONS", "DRIFTLINE_LOG_LEVEL"]
    assert "s3cret" not in "".join(faults)


def test_sasl_without_a_user_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_SECURITY_PROTOCOL", "SASL_SSL")
    (fault,) = failed()
    assert "needs sasl_username and sasl_password" in fault


def test_variables_of_other_programs_and_of_feast_are_no_concern() -> None:
    assert (
        project_check.unknown_settings(
            {"PATH": "/bin", "DRIFTLINE_ONLINE_STORE": "x", "driftline_broker": "kafka:9092"}
        )
        == []
    )


def test_each_server_that_does_not_answer_is_named_with_a_hint_and_without_its_password(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_probes, "ANSWER_SECONDS_MAX", 0.5)
    declare(models, "arrival_delay", GOOD)
    port = closed_port()
    monkeypatch.setenv("DRIFTLINE_BROKER", f"127.0.0.1:{port}")
    monkeypatch.setenv("DRIFTLINE_REDIS_URL", f"redis://user:s3cret@127.0.0.1:{port}/0")
    monkeypatch.setenv("DRIFTLINE_MLFLOW_URI", f"http://user:s3cret@127.0.0.1:{port}")
    faults = failed(connect=True)
    assert [fault.split(" ", 1)[0] for fault in faults] == ["Kafka", "Redis", "MLflow"]
    assert all(str(port) in fault and "driftline up" in fault for fault in faults)
    for fault, variable in zip(
        faults, ("DRIFTLINE_BROKER", "DRIFTLINE_REDIS_URL", "DRIFTLINE_MLFLOW_URI"), strict=True
    ):
        assert variable in fault
    assert "s3cret" not in "".join(faults)


def test_a_key_without_effect_is_a_warning(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare(models, "arrival_delay", GOOD.replace("monitoring:\n", "monitoring:\n  adwin_delta: 0.002\n"))
    command.check()
    assert "warning  model arrival_delay: monitoring.adwin_delta has no effect" in capsys.readouterr().out
