"""Facts of a version come from its tags, its run, and the ledger entries of its request."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from services.model_registry import bounded_download, mlflow_client, model_card_store
from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.model_registry.model_card import CardSection, GateFact, ModelCard
from services.runtime.settings import Settings
from streams.records import LedgerEntry

TAGS = {"driftline.request_id": "q", "driftline.digest": "abc", "driftline.signature": "sig"}
RUN = SimpleNamespace(
    info=SimpleNamespace(run_id="r"),
    data=SimpleNamespace(
        tags={
            "driftline.data.sha256": "d1",
            "driftline.data.first_event_ms": "60000",
            "driftline.code.commit": "c0ffee",
            "mlflow.user": "root",
        },
        metrics={"log_loss": 0.4},
        params={"rows": "100"},
    ),
)


def entry(kind: str, evidence: dict[str, Any], request_id: str = "q") -> LedgerEntry:
    draft = EntryDraft(
        kind=kind, model="m", evidence=evidence, actor="a", at_ms=0, request_id=request_id, step="s"
    )
    return decoded(sealed(draft, 1, ORIGIN))


def test_facts_of_a_retrained_version() -> None:
    gate = {"name": "floor", "outcome": "passed", "text": "good", "numbers": {"value": 1}}
    entries = [
        entry("data_set", {"rows": 100}),
        entry("gate", gate),
        entry("gate", gate | {"name": "other"}, "another"),
    ]
    found = model_card_store.facts_of(3, TAGS, RUN, entries)
    assert found.data == {"sha256": "d1", "first_event_ms": "1970-01-01 00:01 UTC", "rows": "100"}
    assert found.gates == [GateFact("floor", "passed", "good", {"value": 1.0})]
    assert found.code == {
        "driftline.digest": "abc",
        "driftline.signature": "sig",
        "driftline.code.commit": "c0ffee",
    }
    assert (found.run_id, found.metrics, found.parameters) == ("r", {"log_loss": 0.4}, {"rows": "100"})


def test_version_without_run_and_request_has_its_signature_only() -> None:
    found = model_card_store.facts_of(3, {"driftline.digest": "abc"}, None, [entry("gate", {}, "")])
    assert (found.code, found.data, found.gates, found.run_id) == ({"driftline.digest": "abc"}, {}, [], "")


def test_card_is_written_in_three_forms(tmp_path: Path) -> None:
    card = ModelCard("m", 3, 0, [CardSection("Gates", "", ("a", "b"), [("1", "2")])])
    model_card_store.write(card, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model_card.json",
        "model_card.md",
        "model_card.html",
    }
    kept = (tmp_path / model_card_store.JSON_FILE).read_bytes()
    assert msgspec.json.decode(kept, type=ModelCard) == card


def test_card_that_a_retraining_stored_gets_the_number_of_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written before the version is created, so that no version is without it."""
    listed = [SimpleNamespace(path="card/model_card.json")]
    client = SimpleNamespace(
        tracking_uri="http://mlflow:5000",
        get_model_version=lambda *_: SimpleNamespace(run_id="r"),
        get_run=lambda _: SimpleNamespace(
            info=SimpleNamespace(artifact_uri="mlflow-artifacts:/1/r/artifacts")
        ),
        list_artifacts=lambda *_: listed,
    )

    def download(_: str, folder: Path, *__: Any) -> None:
        (folder / "card").mkdir()
        model_card_store.write(ModelCard("m", 0, 5, []), folder / "card")

    monkeypatch.setattr(mlflow_client, "connect", lambda _: client)
    monkeypatch.setattr(bounded_download, "download", download)
    assert model_card_store.stored(Settings(home=tmp_path), "m", 3) == ModelCard("m", 3, 5, [])
