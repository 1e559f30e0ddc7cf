"""Cards, inventory and explanations, on a real broker, registry and archive."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL
from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.model_registry import model_card_store
from services.operations.governance import (
    approvals_command,
    card_command,
    inventory_command,
    prediction_command,
)
from services.operations.models import arms_command
from services.runtime import kafka_producers
from services.runtime.declaration import FILE
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.records import Prediction
from tests.processes import Process
from tests.unit.archive.kafka_records import Record

GOVERNANCE = """
governance:
  risk: limited
  intended_use: Only for tests.
  limitations: Not for people.
  ethical_considerations: None, nobody is judged.
"""
Output = Callable[[], str]


@pytest.fixture
def local(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unique_name: str) -> Settings:
    """A declared model with its topics."""
    folder = tmp_path / "models" / unique_name
    folder.mkdir(parents=True)
    text = (JOB / "models" / MODEL / FILE).read_text(encoding="utf-8")
    text = text.replace(f"name: {MODEL}", f"name: {unique_name}") + GOVERNANCE
    (folder / FILE).write_text(text, encoding="utf-8")
    local = settings.model_copy(update={"models": tmp_path / "models", "feature_repo": JOB / "feature_repo"})
    for name, value in local.environment().items():
        monkeypatch.setenv(name, value)
    local.home.mkdir()
    installation.write_features(local)
    ensure_topics(local, load_all(local.models))
    return local


@pytest.fixture
def dashboard(local: Settings, tmp_path: Path) -> Iterator[Process]:
    with Process("dashboard", local, log=tmp_path / "dashboard.log") as process:
        process.wait_ready()
        yield process


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    return lambda: capsys.readouterr().out


def inventory_row(output: Output, name: str) -> dict[str, Any]:
    output()
    inventory_command.inventory(json=True)
    models = json.loads(output())["models"]
    found: dict[str, Any] = next(row for row in models if row["model"] == name)
    return found


def test_card_is_made_stored_served_and_counted(
    local: Settings, unique_name: str, output: Output, dashboard: Process
) -> None:
    import httpx

    version = installation.register(local, installation.train(seed=1), unique_name)
    with pytest.raises(SystemExit, match=f"{unique_name} has no champion yet"):
        card_command.card(unique_name)
    arms_command.champion(unique_name, version=version, by="ada")
    url = f"{dashboard.url}/models/{unique_name}/versions/{version}/card"
    assert httpx.get(url).status_code == 404
    assert inventory_row(output, unique_name)["card"] == "none"

    card_command.card(unique_name)
    assert "## Intended use\n\nOnly for tests." in (shown := output())
    assert "warning  Training data is missing" in shown
    assert "<h2>Limitations</h2>" in (page := httpx.get(url)).text
    assert "style-src 'sha256-" in page.headers["content-security-policy"]
    assert httpx.get(url, params={"format": "markdown"}).text.startswith(
        f"# {unique_name} version {version}\n"
    )
    stored = model_card_store.stored(local, unique_name, version)
    assert stored is not None
    assert inventory_row(output, unique_name)["card"].startswith("missing: Training data")
    with pytest.raises(SystemExit, match="Training data is missing; Performance is missing"):
        card_command.card(unique_name, version, check=True)

    declaration = local.models / unique_name / FILE
    declaration.write_text(declaration.read_text().replace("Not for people", "Not for cargo"))
    with pytest.raises(SystemExit, match="Limitations has changed since"):
        card_command.card(unique_name, version, check=True)
    with pytest.raises(SystemExit, match=f"the registry has no {unique_name} version 99"):
        card_command.card(unique_name, 99)
    with pytest.raises(SystemExit, match="there is no model 'absent'"):
        card_command.card("absent", 1)


def test_inventory_shows_owner_version_and_reviews(local: Settings, unique_name: str, output: Output) -> None:
    version = installation.register(local, installation.train(seed=1), unique_name)
    arms_command.champion(unique_name, version=version, by="ada")
    approvals_command.review(unique_name, by="bob", reason="looked at it")
    row = inventory_row(output, unique_name)
    assert (row["serving"], row["risk"], row["reviewed_by"]) == (version, "limited", "bob")
    inventory_command.inventory()
    line = next(line for line in output().splitlines() if line.startswith(f"{unique_name} "))
    assert "by bob" in line


def test_prediction_is_explained_from_archive_and_topic(
    local: Settings, unique_name: str, output: Output
) -> None:
    version = installation.register(local, installation.train(seed=1), unique_name)
    arms_command.champion(unique_name, version=version, by="ada")
    topic = topics.predictions(unique_name)
    archived, recent = (prediction(unique_name, version, name) for name in ("old", "new"))
    with kafka_producers.connected(local) as producer:
        for each in (archived, recent):
            producer.send(topic, each.prediction_id.encode(), records.encode(each))
    row = DecodedRecord(Record(0, b"", topic=topic), archived)
    DeltaWriter(local, row_schemas.PREDICTIONS).append([row], {("elsewhere", 0): 1})

    output()
    prediction_command.explain("new", model=unique_name)
    assert f"new: 1 (score 0.75), from {topic}, partition" in (shown := output())
    assert f"version {version}, arm champion" in shown
    assert "arms_changed by ada" in shown
    prediction_command.explain("old", json=True)
    found = json.loads(output())
    assert found["prediction"]["version"] == version
    assert [entry["kind"] for entry in found["decisions"]] == ["arms_changed"]
    with pytest.raises(SystemExit, match="has the id 'absent': look for the id"):
        prediction_command.explain("absent", model=unique_name)


def prediction(model: str, version: int, prediction_id: str) -> Prediction:
    return Prediction(
        prediction_id=prediction_id, model=model, version=version, arm="champion", arm_weight=10_000,
        event_time_ms=2_000_000_000_000, scored_time_ms=2_000_000_000_000, source_partition=0,
        source_offset=0, features=[1.0], features_lag_ms=0, score=0.75, prediction=1,
    )  # fmt: skip
