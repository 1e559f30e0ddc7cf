"""A retraining leaves its reason, its result and the change of arms in the ledger, each once."""

import hashlib
from pathlib import Path

import httpx

from services.model_registry import ledger, ledger_drafts, models_topic
from streams import records, topics
from streams.records import RetrainingFinished
from tests.flow.learning import World, follow
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS

TOKEN = "a token of the tests"


def asked_over_http(process: Process, model: str) -> str:
    """Ask for a retraining as CI would, and return its id; a repeated call makes no second request."""
    url, body = f"{process.url}/retrain/{model}", {"request_id": f"{model}-from-ci"}
    assert httpx.post(url, json=body, timeout=LIVENESS_SECONDS).status_code == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answers = [httpx.post(url, json=body, headers=headers, timeout=LIVENESS_SECONDS) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200], answers[0].text
    assert [answer.json()["repeated"] for answer in answers] == [False, True]
    return body["request_id"]


def test_retraining_is_in_the_ledger_also_after_a_kill(kafka: str, mlflow: str, tmp_path: Path) -> None:
    """The process is killed once it has begun, at any point, and started again."""
    with World(kafka, mlflow, tmp_path) as world:
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        world.settings = world.settings.model_copy(update={"retraining_token_digests": digest})
        model = world.model()
        archive, retraining = world.start("archive"), world.start("retraining")
        archive.wait_ready()
        retraining.wait_ready()
        model.send_rows(model.history())
        request_id = asked_over_http(retraining, model.name)
        retraining.kill()
        world.start("retraining")

        def wanted(record: records.RetrainingRecord) -> bool:
            return isinstance(record, RetrainingFinished) and record.request_id == request_id

        finished = next(follow(kafka, topics.RETRAINING.name, records.RetrainingRecord, wanted))
        entries = [entry for entry in ledger.read(world.settings) if entry.model == model.name]
        kinds = {entry.kind for entry in entries}
        assert kinds == {"arms_changed", "data_set", "gate", "promotion", "trigger"}
        assert len({entry.entry_id for entry in entries}) == len(entries)
        data_set = next(entry for entry in entries if entry.kind == "data_set")
        assert data_set.evidence["rows"] == finished.rows
        promotion = next(entry for entry in entries if entry.kind == "promotion")
        assert (promotion.version, promotion.actor) == (finished.version, "retraining")
        assert promotion.evidence["metrics"] == finished.metrics
        latest = {model.name: models_topic.read(world.settings)[model.name]}
        assert ledger_drafts.unrecorded(entries, latest) == []
