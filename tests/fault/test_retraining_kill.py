"""SIGKILL of a training and of the service before and after each write: each request ends exactly once."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.model_registry import large_references, ledger, ledger_drafts, mlflow_client, models_topic
from services.model_registry.traffic_split import champion_version
from services.operations.local_servers import ports
from services.retraining import run_folder, session
from services.retraining.attempts import of_text
from services.retraining.steps import pipeline
from services.runtime import kafka_consumers
from streams import records, topics
from streams.records import LedgerEntry, RetrainingFinished, RetrainingRequested
from tests.flow.learning import DAY_MS, LAST_MS, Model, World, follow
from tests.processes import Process
from tests.waiting import until
from tests.workers import killed

ROWS = 1200
FILES = {
    *("request.json", "context.json", "declaration.json", "code/model.yaml", "code/training.py"),
    *("data.parquet", "data.json", "validation.html", "validation.json", "choices.json", "estimators.joblib"),
    *("held_out.npz", "evaluation.json", "gates.json", "reference.json", "plots/"),
    *("card/model_card.json", "card/model_card.md", "card/model_card.html", "registered.json"),
    *("failure.json", *(step.record for step in pipeline.STEPS)),
}
MLFLOW = {
    *("create_experiment", "create_run", "log_batch", "log_artifacts", "log_artifact", "set_tag"),
    *("create_registered_model", "create_model_version", "set_terminated"),
    *(f"set_registered_model_alias {alias}" for alias in ("champion", "previous", "frozen", "challenger")),
}
RECORDS = {
    *(f"ledger {kind}" for kind in ("trigger", "data_set", "gate", "promotion", "retraining_finished")),
    *("references part", "references head"),
    *(f"models champion {version} 10000" for version in (1, 2)),
    *(f"ledger arms_changed champion {version} 10000" for version in (1, 2)),
    *(f"retraining retraining_finished {end}" for end in ("promoted", "passed", "rejected", "failed")),
}
WRITES = {
    "offsets",
    "file removed",
    *(f"file {name}" for name in FILES),
    *(f"mlflow {name}" for name in MLFLOW),
    *(f"driftline.{name}" for name in RECORDS),
}
"""Every write of a retraining, as `tests.workers.killed` names it. A write that is new fails the test: think
of what a repeat of it does after a kill, then add it here."""


class Killed(NamedTuple):
    """A process that kills itself around each of its writes, and the models that it trains."""

    world: World
    process: Process
    folder: Path


@pytest.fixture
def running(kafka: str, mlflow: str, tmp_path: Path) -> Iterator[Killed]:
    folder = tmp_path / "kills"
    folder.mkdir()
    with World(kafka, mlflow, tmp_path) as world:
        own = world.settings.model_copy(update={"retraining_port": ports.free_port()})
        command = (sys.executable, "-m", "tests.workers.killed", "retraining", str(folder))
        yield Killed(world, Process("retraining", own, log=tmp_path / "killed.log", command=command), folder)


def declared(model: Model, old: str, new: str) -> Model:
    """Change a model's declaration."""
    path = model.script.parent / "model.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return model


def test_requests_end_once_and_all_agree_after_kills_around_each_write(running: Killed) -> None:
    world = running.world
    rollout = "rollout:\n  steps: [{share: shadow}]\n  guardrails: {loss: {margin: 0.1}}\n"
    promoted = declared(world.model(), "margin: 0.0", "margin: -0.01")
    refused = declared(world.model(), "floor: 0.69", "floor: 0.01")
    led = declared(world.model(), "rollout:\n", rollout)
    broken = world.model()
    broken.script.write_text("raise ValueError('no estimator')")
    models = [promoted, refused, led, broken]
    world.start("archive").wait_ready()
    for model in models:
        model.send_rows(model.history(ROWS))
    with running.process:
        requests = [model.request("one", trigger="bootstrap") for model in models]
        ends = [end_of(model, request) for model, request in zip(models, requests, strict=True)]
        requests.append(promoted.request("two", at_ms=LAST_MS + DAY_MS))
        ends.append(end_of(promoted, requests[-1]))
        until(lambda: has_committed(world), "all is committed, without attempts", check=running.process.check)
    results = [(each.result, each.version) for each in ends]
    assert results == [("promoted", 1), ("rejected", 1), ("passed", 1), ("failed", 0), ("promoted", 2)]
    for model, request, end in zip([*models, promoted], requests, ends, strict=True):
        check_request(model, request, end)
    check_promotion(promoted)
    for model in (refused, led, broken):
        assert model.name not in models_topic.read(model.settings)
    assert aliases_of(refused) == aliases_of(led) == {"challenger": 1}
    writes = {each.partition(" ")[2] for each in killed.writes_of(running.folder)}
    assert len(killed.writes_of(running.folder)) == 2 * len(writes), "before and after each"
    for model in models:
        path = run_folder.of_request(model.settings, model.name, f"{model.name}-one").path
        files = {each for each in path.rglob("*") if each.is_file() and each.suffix not in {".part", ".pyc"}}
        names = {each.relative_to(path).as_posix() for each in files}
        kept = {each for each in names if not each.startswith("plots/")} - {"lock"}
        assert kept <= {each.removeprefix("file ") for each in writes}, "what is in the folder was written so"
    assert writes == WRITES


@pytest.mark.parametrize("step", ["train", "register"])
def test_request_ends_once_after_a_kill_of_the_service_in_a_training(
    kafka: str, mlflow: str, tmp_path: Path, step: str
) -> None:
    """The training ends with the service, and the next service does only what is left."""
    with World(kafka, mlflow, tmp_path) as world:
        model = world.model()
        archive, retraining = world.start("archive"), world.start("retraining")
        archive.wait_ready()
        retraining.wait_ready()
        model.send_rows(model.history(ROWS))
        request = model.request("first", trigger="bootstrap")
        run = run_folder.of_request(model.settings, model.name, request.request_id)
        until(lambda: run.has(pipeline.step_of(step).record), f"{step} is done", check=retraining.check)
        retraining.kill()
        retraining.start()
        end = end_of(model, request)
        assert (end.result, end.version, end.rows) == ("promoted", 1, ROWS)
        check_request(model, request, end)


def end_of(model: Model, request: RetrainingRequested) -> RetrainingFinished:
    """Wait for the end of a request."""

    def wanted(record: records.RetrainingRecord) -> bool:
        return isinstance(record, RetrainingFinished) and record.request_id == request.request_id

    found: RetrainingFinished = next(
        follow(model.settings.broker, topics.RETRAINING.name, records.RetrainingRecord, wanted)
    )
    return found


def has_committed(world: World) -> bool:
    """Tell whether the committed offset is the end of the topic, and no attempt is open."""
    consumer = kafka_consumers.connect(world.settings, "tests", group_id=session.GROUP)
    try:
        found = consumer.committed(session.REQUESTS, metadata=True)
        (end,) = consumer.end_offsets([session.REQUESTS]).values()
    finally:
        consumer.close(autocommit=False)
    return found is not None and found.offset == end and of_text(found.metadata).begun == []


def check_request(model: Model, request: RetrainingRequested, end: RetrainingFinished) -> None:
    """Check that topic, ledger and registry tell the same of a request."""
    decode = records.decoder_of(records.RetrainingRecord).decode
    written = kafka_consumers.read_topic(model.settings, "tests", topics.RETRAINING.name)
    found = [decode(each.value) for each in written if each.value]
    ends = [each for each in found if isinstance(each, RetrainingFinished)]
    assert [each for each in ends if each.request_id == request.request_id] == [end]
    entries = [each for each in ledger.read(model.settings) if each.request_id == request.request_id]
    check_entries(entries, end)
    client = mlflow_client.connect(model.settings)
    made = [
        each
        for each in client.search_model_versions(f"name='{model.name}'")
        if each.tags[mlflow_client.REQUEST_TAG] == request.request_id
    ]
    assert [(int(each.version), each.run_id) for each in made] == (
        [(end.version, end.run_id)] if end.version else []
    )
    runs = runs_of(client, model, request.request_id)
    assert set(runs.values()) <= {"FINISHED", "FAILED", "KILLED"}, "none is left open"
    assert [run_id for run_id, status in runs.items() if status == "FINISHED"] == (
        [end.run_id] if end.version else []
    )


def check_entries(entries: list[LedgerEntry], end: RetrainingFinished) -> None:
    """Check that the ledger has each entry of a request once, and its result."""
    kinds = [each.kind for each in entries]
    result = ledger_drafts.PROMOTION if end.result == "promoted" else ledger_drafts.RESULT
    gates = kinds.count(ledger_drafts.GATE)
    assert kinds == [
        ledger_drafts.TRIGGER,
        ledger_drafts.DATA_SET,
        *[ledger_drafts.GATE] * gates,
        result,
    ]
    assert bool(gates) == bool(end.version)
    assert (entries[-1].version, entries[-1].evidence["result"]) == (end.version, end.result)
    assert len({each.entry_id for each in entries}) == len(entries)


def runs_of(client: Any, model: Model, request_id: str) -> dict[str, str]:
    """Return the status of each run of a request."""
    experiment = client.get_experiment_by_name(model.name)
    found = client.search_runs([experiment.experiment_id])
    return {
        each.info.run_id: each.info.status
        for each in found
        if each.data.tags[mlflow_client.REQUEST_TAG] == request_id
    }


def aliases_of(model: Model) -> dict[str, int]:
    client = mlflow_client.connect(model.settings)
    return {name: int(version) for name, version in client.get_registered_model(model.name).aliases.items()}


def check_promotion(model: Model) -> None:
    """Check that arms, aliases, reference and ledger have the second version as the champion."""
    latest = models_topic.read(model.settings)[model.name]
    assert champion_version(latest.arms) == 2
    assert aliases_of(model) == {"champion": 2, "previous": 1, "frozen": 1}
    entries = [each for each in ledger.read(model.settings) if each.model == model.name]
    assert not ledger_drafts.unrecorded(entries, {model.name: latest})
    assert [each.kind for each in entries].count(ledger_drafts.ARMS_CHANGED) == 2
    assert latest.reference_name is not None
    read = large_references.latest_in(model.settings)
    assert large_references.read(read, model.name, latest.reference_name).version == 2
