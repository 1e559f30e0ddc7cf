"""What a learner's totals add to the counters of its process."""

import pytest
from prometheus_client import REGISTRY

from services.learning.intervals import LearningOutputs
from services.learning.learner import Learner
from services.learning.learning_metrics import LearningObserver
from streams import records
from tests.unit.learning import traffic


def labels_counted(model: str, result: str) -> float:
    found = REGISTRY.get_sample_value("driftline_learning_labels_total", {"model": model, "result": result})
    return found or 0.0


def value_of(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
def learner() -> Learner:
    found = traffic.new_learner(name="observed")
    traffic.play(found, traffic.traffic(8, name="observed"))
    return found


def test_what_the_checkpoint_has_counted_is_not_counted_again(learner: Learner) -> None:
    before = labels_counted("observed", "learned")
    LearningObserver(learner).observe(LearningOutputs())
    assert learner.counts.learned > 0
    assert labels_counted("observed", "learned") == before


def test_each_step_counts_its_own_labels() -> None:
    learner = traffic.new_learner(name="observed")
    observer, before = LearningObserver(learner), labels_counted("observed", "learned")
    traffic.play(learner, traffic.traffic(8, name="observed"))
    observer.observe(LearningOutputs())
    observer.observe(LearningOutputs())
    assert labels_counted("observed", "learned") - before == learner.counts.learned > 0
    assert value_of("driftline_learning_pending", model="observed") == len(learner.pending)


def test_a_published_version_shows_its_number_and_size(learner: Learner) -> None:
    published = traffic.published(traffic.play(traffic.new_learner(), traffic.traffic(8)))[-1]
    LearningObserver(learner).observe(LearningOutputs(published=[published], loss=0.25))
    assert value_of("driftline_learning_version", model="observed") == published.version
    size_bytes = value_of("driftline_learning_state_bytes", model="observed", record="model")
    assert size_bytes == len(published.estimator)
    assert value_of("driftline_learning_loss", model="observed") == 0.25


def test_dead_letters_are_counted_by_topic_and_kind(learner: Learner) -> None:
    letter = records.DeadLetter(
        service="learning", reason="r", topic="observed.labels", partition=0, offset=1, key=None, value=b"",
        failed_time_ms=0,
    )  # fmt: skip
    labels = {"service": "learning", "topic": "observed.labels", "kind": "invalid"}
    before = value_of("driftline_dead_letters_total", **labels) or 0
    LearningObserver(learner).observe(LearningOutputs(dead_letters=[letter, letter]))
    assert value_of("driftline_dead_letters_total", **labels) == before + 2
