"""SIGKILL of a training, or of the service, after each step: the request ends exactly once."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest

from services.model_registry import mlflow_client, models_topic
from services.retraining import run_folder
from services.retraining.steps import pipeline
from services.runtime import kafka_consumers
from streams import records, topics
from streams.records import RetrainingFinished
from tests.flow.learning import Model, World, follow
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS

STEPS = [step.name for step in pipeline.STEPS]
POLL_SECONDS = 0.002


class Running(NamedTuple):
    """The processes, and a model for each kill."""

    world: World
    models: Iterator[Model]
    retraining: Process


@pytest.fixture(scope="module")
def running(kafka: str, mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with World(kafka, mlflow, tmp_path_factory.mktemp("kills")) as world:
        models = [world.model() for _ in range(2 * len(STEPS))]
        archive, retraining = world.start("archive"), world.start("retraining")
        archive.wait_ready()
        retraining.wait_ready()
        yield Running(world, iter(models), retraining)


def wait_for(model: Model, request_id: str, name: str) -> None:
    """Wait until a step of a request is done."""
    run = run_folder.of_request(model.settings, model.name, request_id)
    deadline = time.monotonic() + LIVENESS_SECONDS
    while not run.has(name):
        assert time.monotonic() < deadline, f"{name} was not written"
        time.sleep(POLL_SECONDS)


def trainings(process: Process) -> list[psutil.Process]:
    """Return the processes that train: the server that forks them is the child of the service."""
    service = psutil.Process(process.pid)
    direct = {child.pid for child in service.children()}
    return [child for child in service.children(recursive=True) if child.pid not in direct]


@pytest.mark.parametrize("killed", ["training", "service"])
@pytest.mark.parametrize("step", STEPS)
def test_request_ends_once_after_a_kill(running: Running, step: str, killed: str) -> None:
    model, process = next(running.models), running.retraining
    model.send_rows(model.history(1200))
    request = model.request("first", trigger="bootstrap")
    wait_for(model, request.request_id, f"{step}.json")
    if killed == "service":
        process.kill()
        process.start()
    else:
        for child in trainings(process):
            child.kill()

    def wanted(record: records.RetrainingRecord) -> bool:
        return isinstance(record, RetrainingFinished) and record.request_id == request.request_id

    finished = next(follow(model.settings.broker, topics.RETRAINING.name, records.RetrainingRecord, wanted))
    assert (finished.result, finished.version, finished.rows) == ("promoted", 1, 1200)
    decode = records.decoder_of(records.RetrainingRecord).decode
    written = kafka_consumers.read_topic(model.settings, "tests", topics.RETRAINING.name)
    assert sum(wanted(decode(each.value)) for each in written if each.value) == 1
    client = mlflow_client.connect(model.settings)
    assert len(client.search_model_versions(f"name='{model.name}'")) == 1
    assert mlflow_client.version_of(client, model.name, "champion") == 1
    arms = models_topic.read(model.settings)[model.name].arms
    assert {arm.version for arm in arms} == {1}
