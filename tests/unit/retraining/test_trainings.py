"""Several models are trained at once, and nothing that fails or waits blocks the others."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from services.model_registry import ledger_drafts
from services.retraining import run_folder
from services.retraining.mlflow_run import RegisteredCandidate
from services.retraining.retrainer import Retrainer
from services.retraining.run_folder import RunFolder
from services.retraining.training_process import Failure
from streams import records, topics
from streams.defects import ATTEMPTS_MAX
from tests.unit.retraining.session_world import FINISHED, REQUEST, Record, World, steps

BEGIN = Retrainer.begin
"""The real one."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


class Run(RunFolder):
    """A folder that needs no files."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def declaration(self) -> Any:
        return SimpleNamespace(retraining=SimpleNamespace(memory_mib_max=1, minutes_max=1))


@pytest.fixture
def trained(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Let each request be prepared and trained, without servers."""
    monkeypatch.setattr(Retrainer, "begin", lambda _, request: Run(request.request_id))
    monkeypatch.setattr(Retrainer, "archive_reason", lambda *_: None)
    monkeypatch.setattr(Retrainer, "wait_reason", lambda *_: None)
    monkeypatch.setattr(run_folder, "remove_old", lambda _: None)
    return world


def requests_of(world: World, *models: str) -> None:
    """Write a request for each of the models, r1, r2 and so on."""
    found = [
        Record(
            records.encode(msgspec.structs.replace(REQUEST, request_id=f"r{number}", model=model)), number - 1
        )
        for number, model in enumerate(models, start=1)
    ]
    world.consumer.batches = [[each] for each in found]


def rejected(version: int) -> RegisteredCandidate:
    reference = records.Reference(version=version, features=[], score=None, log_loss=0.5)
    return RegisteredCandidate(version, "run", 9, {}, ["floor"], reference)


def test_models_are_trained_side_by_side_and_each_one_at_a_time(trained: World) -> None:
    requests_of(trained, "a", "a", "b", "c")
    trained.results_of = {name: [] for name in ("r1", "r2", "r3", "r4")}
    with trained.opened() as running:
        steps(running, trained, 5)
        assert trained.started == ["r1", "r3"], "two at once, the default"
        assert trained.consumer.commits[-1][0] == 0
        trained.results_of["r3"] += [rejected(1)]
        steps(running, trained, 2)
        assert trained.started == ["r1", "r3", "r4"]
        trained.results_of["r1"] += [rejected(1)]
        trained.results_of["r4"] += [rejected(1)]
        steps(running, trained, 2)
        assert trained.started == ["r1", "r3", "r4", "r2"]
        assert trained.consumer.commits[-1][0] == 1
        trained.results_of["r2"] += [rejected(2)]
        steps(running, trained, 1)
    assert trained.results() == dict.fromkeys(("r1", "r2", "r3", "r4"), "floor")
    assert trained.consumer.position == 4


def test_the_libraries_of_a_training_are_loaded_from_the_first_request_on(trained: World) -> None:
    """A service without a request spends neither time nor memory on them."""
    with trained.opened() as running:
        steps(running, trained, 3)
        assert trained.servers == []
        requests_of(trained, "a", "b")
        trained.results_of = {"r1": [rejected(1)], "r2": [rejected(1)]}
        steps(running, trained, 4)
    assert trained.servers[0] == 0, "before its training begins"


def test_a_process_that_is_killed_each_time_fails_its_request_and_no_other(trained: World) -> None:
    requests_of(trained, "a", "b")
    trained.results_of = {"r1": [Failure("SIGKILL", may_succeed=True)] * ATTEMPTS_MAX, "r2": [rejected(1)]}
    with trained.opened() as running:
        steps(running, trained, 2 * ATTEMPTS_MAX + 2)
    assert trained.started.count("r1") == ATTEMPTS_MAX
    assert trained.results() == {"r1": f"{ATTEMPTS_MAX} attempts failed: SIGKILL", "r2": "floor"}


def test_attempts_are_counted_over_kills_of_the_service(trained: World) -> None:
    """The attempt is committed before it begins."""
    for _ in range(ATTEMPTS_MAX):
        requests_of(trained, "a")
        trained.results_of = {"r1": []}
        with trained.opened() as running:
            steps(running, trained, 1)
            running.stop = lambda: None  # a kill: nothing is taken back
            running._trainings._running.clear()
    requests_of(trained, "a")
    with trained.opened() as running:
        steps(running, trained, 1)
    assert trained.results() == {
        "r1": f"{ATTEMPTS_MAX} attempts failed: the process was killed each time, check its memory"
    }
    assert trained.started == ["r1"] * ATTEMPTS_MAX


def test_a_stop_and_an_outage_are_no_attempts(trained: World) -> None:
    outages = [Failure("MLflow is away", is_outage=True)] * (2 * ATTEMPTS_MAX)
    requests_of(trained, "a", "b")
    trained.results_of = {"r1": [*outages], "r2": [rejected(1)]}
    with trained.opened() as running:
        steps(running, trained, 4 * ATTEMPTS_MAX)
        assert (
            trained.queue.detail() == {"retrainings_waiting": {"a": ["r1: MLflow is away"]}}
            or trained.started
        )
        assert trained.results() == {"r2": "floor"}, "it blocks nothing"
    for _ in range(2 * ATTEMPTS_MAX):
        requests_of(trained, "a")
        with trained.opened() as running:
            steps(running, trained, 1)
    assert trained.killed, "trainings end with the session"
    requests_of(trained, "a")
    trained.results_of["r1"] = [rejected(2)]
    with trained.opened() as running:
        steps(running, trained, 2)
    assert trained.results() == {"r1": "floor", "r2": "floor"}


def test_a_limit_that_is_hit_is_the_result(trained: World) -> None:
    requests_of(trained, "a")
    trained.results_of = {"r1": [Failure("more than retraining.memory_mib_max")]}
    with trained.opened() as running:
        steps(running, trained, 2)
    assert trained.results() == {"r1": "more than retraining.memory_mib_max"}
    assert trained.consumer.position == 1


def test_an_archive_that_is_behind_blocks_no_other_model(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = {"r1": "the archive does not hold p/0 from offset 1 to 2 yet"}
    monkeypatch.setattr(Retrainer, "archive_reason", lambda _, run: behind.get(run.name))
    requests_of(trained, "a", "b")
    trained.results_of = {"r1": [rejected(1)], "r2": [rejected(1)]}
    with trained.opened() as running:
        steps(running, trained, 4)
        assert trained.results() == {"r2": "floor"}
        assert trained.queue.detail() == {"retrainings_waiting": {"a": [f"r1: {behind['r1']}"]}}
        behind.clear()
        steps(running, trained, 2)
    assert set(trained.results()) == {"r1", "r2"}


def test_a_request_whose_version_is_registered_is_completed_however_often_its_process_is_killed(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version must not stay partly promoted."""
    registered = False
    monkeypatch.setattr(Retrainer, "has_version", lambda *_: registered)
    requests_of(trained, "a")
    kill = Failure("SIGKILL", may_succeed=True)
    trained.results_of = {"r1": [*[kill] * (ATTEMPTS_MAX + 2), rejected(1)]}
    with trained.opened() as running:
        registered = True
        steps(running, trained, 3 * ATTEMPTS_MAX + 6)
    assert trained.started.count("r1") == ATTEMPTS_MAX + 3
    assert trained.results() == {"r1": "floor"}


def test_a_request_waits_while_the_registry_cannot_tell_whether_it_has_a_version(
    trained: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = [ConnectionRefusedError("MLflow"), False]

    def has_version(*_: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Retrainer, "has_version", has_version)
    requests_of(trained, "a")
    trained.results_of = {"r1": [Failure("bad rows"), Failure("bad rows")]}
    with trained.opened() as running:
        steps(running, trained, 2)
        assert trained.queue.detail() == {
            "retrainings_waiting": {"a": ["r1: ConnectionRefusedError: MLflow"]}
        }
        steps(running, trained, 3)
    assert trained.results() == {"r1": "bad rows"}


def test_attempts_of_a_request_with_a_result_are_forgotten(trained: World) -> None:
    """A kill came after the result and before the commit; a committed text has room for few requests."""
    requests_of(trained, "a")
    trained.results_of = {"r1": []}
    with trained.opened() as running:
        steps(running, trained, 1)
        running.stop = lambda: None
        running._trainings._running.clear()
    finished = msgspec.structs.replace(FINISHED, request_id="r1", model="a")
    trained.topics[topics.RETRAINING.name] = [Record(records.encode(finished))]
    requests_of(trained, "a")
    with trained.opened() as running:
        steps(running, trained, 2)
    assert trained.consumer.position == 1, "without attempts"


def test_a_result_of_which_the_ledger_knows_is_the_result(trained: World) -> None:
    """A kill came between the entries and the record; another attempt might end differently."""
    asked = msgspec.structs.replace(REQUEST, request_id="r1", model="a")
    known = records.RetrainingFinished(
        request_id="r1", model="a", trigger="manual", requested_at_ms=1, result="rejected", version=7,
        reasons=["floor"], metrics={"log_loss": 0.5}, rows=9, run_id="run", duration_seconds=2.5,
        data_tables={"predictions": 3},
    )  # fmt: skip
    drafts = ledger_drafts.of_retraining(asked, known, at_ms=1, data_set={"tables": {"predictions": 3}})
    trained.recorded = [
        records.LedgerEntry(
            entry_id=each.entry_id, number=number, kind=each.kind, model=each.model, version=each.version,
            request_id=each.request_id, actor=each.actor, at_ms=1, evidence=each.evidence, previous="",
            hash="",
        )
        for number, each in enumerate(drafts, start=1)
    ]  # fmt: skip
    trained.topics[topics.RETRAINING.name] = [Record(records.encode(asked))]
    requests_of(trained, "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Retrainer, "begin", BEGIN)
        with trained.opened() as running:
            steps(running, trained, 2)
    assert trained.started == []
    (sent,) = [value for topic, _, value, _ in trained.producer.sent if topic == topics.RETRAINING.name]
    assert records.decoder_of(records.RetrainingFinished).decode(sent) == known
