from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.feature_store import repository
from services.feature_store.plan import PlanError
from services.feature_store.repository import Materialization
from services.model_registry import signing
from services.operations import schema_checks
from services.operations import setup as module
from services.operations.setup import setup
from services.runtime.topic_creation import TopicsError
from streams.schemas import SchemaRegistryUnavailableError


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were taken, in order; none needs a server."""
    taken: list[str] = []
    views = [
        SimpleNamespace(name="narrow", is_repartitioned=False, source=None),
        SimpleNamespace(name="wide", is_repartitioned=True, source=None),
    ]
    plan = SimpleNamespace(views=views, by_topic=lambda: {"sales": views})

    def apply(_: Any) -> Any:
        taken.append("apply")
        return plan

    def materialize(*_: Any) -> Materialization:
        taken.append("materialize")
        return Materialization(["facts"], {"routes": tmp_path / "routes.parquet"})

    def ensure_topics(_: Any, declarations: Any, *, applications: Any, views: Any) -> None:
        taken.append(f"topics {sorted(declarations)} {applications} {views}")

    def ensure_key(_: Any) -> str:
        taken.append("key")
        return "abc"

    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    monkeypatch.setattr(repository, "apply", apply)
    monkeypatch.setattr(repository, "materialize", materialize)
    monkeypatch.setattr(module, "ensure_topics", ensure_topics)
    monkeypatch.setattr(signing, "are_provided", lambda _: False)
    monkeypatch.setattr(signing, "ensure_key", ensure_key)
    monkeypatch.setattr(schema_checks, "needed_by", lambda *_: None)
    return taken


def test_each_step_is_taken_in_order_and_told(
    steps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup()
    models = ["arrival_delay", "arrival_minutes"]
    assert steps == ["apply", "key", f"topics {models} ['sales'] ['wide']", "materialize"]
    *said, absent = capsys.readouterr().out.splitlines()
    assert said == [
        f"ok  applied 2 feature views to {tmp_path.resolve()}",
        "ok  versions are signed with the key abc",
        "ok  the topics of arrival_delay, arrival_minutes exist",
        "ok  materialised the batch views facts",
    ]
    assert f"view routes: its file {tmp_path / 'routes.parquet'} does not exist" in absent


def test_the_registry_alone_needs_no_other_step(steps: list[str]) -> None:
    setup(registry_only=True)
    assert steps == ["apply"]


def test_keys_of_the_settings_are_not_replaced(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signing, "are_provided", lambda _: True)
    setup()
    assert "key" not in steps
    assert "ok  versions are signed with the keys of the settings" in capsys.readouterr().out


def test_schemas_that_fit_are_told_before_those_that_do_not(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ensure(*_: Any, register: bool) -> tuple[list[str], list[str]]:
        assert register
        return ["a fits"], ["b differs", "c differs"]

    monkeypatch.setattr(schema_checks, "needed_by", lambda *_: object())
    monkeypatch.setattr(schema_checks, "ensure", ensure)
    with pytest.raises(SystemExit) as ended:
        setup()
    assert ended.value.code == "b differs\nc differs"
    assert capsys.readouterr().out.endswith("ok  a fits\n")
    assert "materialize" not in steps


@pytest.mark.parametrize(
    "error",
    [
        PlanError("no view"),
        TopicsError("too narrow"),
        signing.SigningError("no key"),
        SchemaRegistryUnavailableError("gone"),
    ],
)
def test_an_expected_error_is_its_message_alone(
    error: Exception, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "ensure_topics", fail)
    with pytest.raises(SystemExit) as ended:
        setup()
    assert ended.value.code == str(error)
    assert steps == ["apply", "key"]
