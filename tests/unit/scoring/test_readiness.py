"""The process is ready while any model can answer, whatever Kafka does."""

from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from services.scoring.readiness import START_SECONDS_MAX, Readiness
from streams.batches import BlockedPartition
from tests.unit.scoring.fakes import ManualClock


def deployment(not_ready: str | None = None) -> Any:
    group = SimpleNamespace(assigned=True, blocked=list)
    return SimpleNamespace(group=group, is_loading=False, not_ready=not_ready, waiting=0)


class Models:
    def __init__(self, **deployed: Any) -> None:
        self.deployed = deployed
        self.starting: list[str] = []
        self.faults: dict[str, str] = {}


def test_at_the_start_all_models_are_waited_for_but_not_for_ever():
    models, clock = Models(), ManualClock()
    subject = Readiness(models, clock=clock)
    models.starting = ["a", "b"]
    assert subject.not_ready() == "starting models: a, b"
    models.deployed = {"a": deployment(), "b": deployment()}
    models.starting, models.deployed["b"].is_loading = [], True
    assert subject.not_ready() == "loading models: b"
    clock.advance(START_SECONDS_MAX + 1)
    assert subject.not_ready() is None


def test_a_model_that_starts_again_later_leaves_the_process_ready():
    models = Models(a=deployment())
    subject = Readiness(models)
    assert subject.not_ready() is None
    models.starting = ["b"]
    assert subject.not_ready() is None


def test_a_rebalance_leaves_the_process_ready_and_is_shown():
    models = Models(a=deployment())
    models.deployed["a"].group.assigned = False
    subject = Readiness(models)
    assert subject.not_ready() is None
    assert subject.detail() == {"broken": {}, "waiting_for_partitions": ["a"]}


def test_requests_that_wait_for_their_features_are_shown():
    """Over HTTP the model answers, so the process is ready."""
    models = Models(a=deployment(), b=deployment())
    models.deployed["b"].waiting = 489
    subject = Readiness(models)
    assert subject.not_ready() is None
    assert subject.detail() == {"broken": {}, "waiting_for_features": {"b": 489}}


def test_one_model_that_can_answer_is_enough():
    models = Models(a=deployment("version 1 cannot be loaded"), b=deployment())
    models.faults = {"c": "no broker"}
    subject = Readiness(models)
    assert subject.not_ready() is None
    models.deployed["b"].not_ready = "version 7 cannot be loaded"
    assert subject.not_ready() == (
        "no model can answer: a: version 1 cannot be loaded; b: version 7 cannot be loaded; c: no broker"
    )


def test_model_with_a_blocked_partition_cannot_answer_and_the_reason_is_shown():
    models = Models(a=deployment(), b=deployment())
    partition = BlockedPartition(TP("requests", 3), 7, 40.0, ConnectionError("no Redis"), is_stuck=False)
    models.deployed["a"].group.blocked = lambda: [partition]
    reason = "requests/3 waits at offset 7 for 40 s: ConnectionError('no Redis')"
    subject = Readiness(models)
    assert subject.not_ready() is None
    assert subject.detail() == {"broken": {}, "blocked": [reason]}
    del models.deployed["b"]
    assert subject.not_ready() == f"no model can answer: a: {reason}"


def test_partition_that_waits_for_kafka_is_shown_and_leaves_the_process_ready():
    """Requests over HTTP are answered without Kafka."""
    models = Models(a=deployment())
    partition = BlockedPartition(TP("requests", 3), 7, 40.0, KafkaConnectionError("gone"), is_stuck=False)
    models.deployed["a"].group.blocked = lambda: [partition]
    subject = Readiness(models)
    assert subject.not_ready() is None
    assert subject.detail()["blocked"] == [str(partition)]


def test_without_any_model_the_process_is_not_ready():
    assert Readiness(Models()).not_ready() == "no model is deployed"


def test_a_process_that_stops_is_not_ready():
    assert Readiness(Models(a=deployment()), is_stopping=lambda: True).not_ready() == "stopping"


def test_the_detail_says_why_the_models_topic_is_not_followed():
    assert Readiness(Models(), following_failure=lambda: "no broker").detail()["models_topic"] == "no broker"
