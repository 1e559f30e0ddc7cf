import itertools
from typing import Any

import msgspec
import numpy as np
import pytest

from services.monitoring.input_topics import InputTopics
from services.rollout import monitor
from services.rollout.monitor import MonitorState, RolloutMonitor
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.inputs import LABEL, PartitionKey
from streams.records import Label, Prediction
from tests.unit.rollout.rollout_model import (
    HOUR_MS,
    NEW,
    START_MS,
    declaration,
    label,
    prediction,
    progress,
    shadowed,
)

MINUTE_MS = 60_000


def fresh() -> MonitorState:
    return monitor.fresh_state(1, 1, None)


def begun(declared: ModelDeclaration, state: MonitorState, step: int = 0) -> RolloutMonitor:
    found = RolloutMonitor(declared, state)
    found.begin(progress(step, 0 if step == 0 else 1000), (0, 10_000) if step == 0 else (1000, 9000))
    return found


def shadow_stream(added: float, hours: int = 60) -> list[tuple[int, Prediction | Label]]:
    """Return a request a minute, with a label ten minutes later; the shadow's log odds are off by so much."""
    random = np.random.default_rng(5)
    found: list[tuple[int, Prediction | Label]] = []
    for number in range(hours * 60):
        at_ms = START_MS + number * MINUTE_MS
        logit = float(random.normal(-1, 1))
        chance, shadow = (1 / (1 + np.exp(-each)) for each in (logit, logit + added + random.normal(0, 0.3)))
        truth = float(random.random() < chance)
        found.append((number, shadowed(number, at_ms, float(chance), float(shadow))))
        found.append((number, label(number, at_ms + 10 * MINUTE_MS, truth)))
    return found


def play(found: RolloutMonitor, stream: list[tuple[int, Prediction | Label]]) -> None:
    for offset, record in stream:
        if isinstance(record, Prediction):
            found.add_prediction(0, offset, record)
        else:
            found.add_label(0, offset, record)
    found.advance()


def test_equal_shadow_passes() -> None:
    found = begun(declaration(), fresh())
    play(found, shadow_stream(0.0))
    verdict = found.verdict()
    assert verdict is not None
    assert verdict.kind == "passed", verdict.reason


def test_worse_shadow_is_rolled_back() -> None:
    found = begun(declaration(), fresh())
    play(found, shadow_stream(2.0))
    verdict = found.verdict()
    assert verdict is not None
    assert verdict.kind == "worse"
    assert verdict.reason.startswith("loss is worse than the champion's by ")
    assert records.encode(verdict.figures[0]).startswith(b'{"guardrail":"loss"')


def test_restart_from_a_snapshot_gives_the_same_evidence() -> None:
    stream = shadow_stream(0.3, hours=20)
    whole = begun(declaration(), fresh())
    play(whole, stream)
    for cut in (1, 700, len(stream) - 1):
        first = begun(declaration(), fresh())
        play(first, stream[:cut])
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(first.state()), type=MonitorState)
        second = begun(declaration(), monitor.fresh_state(1, 1, kept))
        play(second, stream[max(cut - 40, 0) :])  # some records come again
        assert second.state().evidence.blocks == whole.state().evidence.blocks
        assert second.verdict() == whole.verdict()


@pytest.mark.parametrize("place", [0, 601])
@pytest.mark.parametrize("is_labelled", [False, True])
def test_answer_over_http_dated_months_ahead_holds_up_no_comparison(place: int, *, is_labelled: bool) -> None:
    """Its own window closes months later; those of all other requests close as without it."""
    stream = shadow_stream(0.3, hours=20)
    whole = begun(declaration(), fresh())
    play(whole, stream)
    number, ahead_ms = 10**6, START_MS + 240 * 24 * HOUR_MS
    http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
    ahead: list[Prediction | Label] = [shadowed(number, ahead_ms, 0.2, 0.3, **http)]
    if is_labelled:
        given = label(number, ahead_ms, 1.0)
        ahead.append(msgspec.structs.replace(given, is_over_http=True, written_time_ms=ahead_ms))
    found = begun(declaration(), fresh())
    given_stream = [record for _, record in stream]
    given_stream[place:place] = ahead
    offsets = {Prediction: itertools.count(), Label: itertools.count()}
    play(found, [(next(offsets[type(each)]), each) for each in given_stream])
    assert found.state().evidence.blocks == whole.state().evidence.blocks
    assert found.latest_ms == whole.latest_ms
    assert found.state().evidence.labels == whole.state().evidence.labels


def test_topic_that_is_read_first_changes_no_evidence() -> None:
    """A process that was away for long reads either topic faster than the other."""
    stream = shadow_stream(0.3, hours=20)
    whole = begun(declaration(), fresh())
    play(whole, stream)
    labels = [each for each in stream if isinstance(each[1], Label)]
    requests = [each for each in stream if isinstance(each[1], Prediction)]
    for pieces in ((labels, requests), (labels[:500], requests, labels[500:])):
        found = begun(declaration(), fresh())
        for piece in pieces:
            play(found, piece)
        assert found.state().evidence.blocks == whole.state().evidence.blocks
        assert found.state().early == {}


def test_labels_of_requests_that_were_not_read_pause_their_partition() -> None:
    found = begun(declaration(), fresh())
    play(found, [(number, label(number, START_MS + number, 1.0)) for number in range(6)])
    assert found.ahead(5) == {PartitionKey(LABEL, 0)}
    assert found.ahead(6) == set()
    found.add_prediction(0, 0, shadowed(0, START_MS + 6, 0.2, 0.3))
    assert found.ahead(5) == set()


def test_next_step_starts_without_evidence() -> None:
    found = begun(declaration(), fresh())
    play(found, shadow_stream(0.0, hours=3))
    assert found.state().evidence.requests == 180
    found.begin(progress(1, 1000, at_ms=START_MS + HOUR_MS), (1000, 9000))
    state = found.state()
    assert (state.evidence.step, state.evidence.requests, state.waiting) == (1, 0, {})
    found.begin(progress(1, 1000, at_ms=START_MS + HOUR_MS), (1000, 9000))
    assert found.state().evidence is state.evidence


def test_errors_are_found_without_any_label() -> None:
    found = begun(declaration(), fresh(), step=1)
    for number in range(200):
        changes: dict[str, Any] = (
            {"fallback_from": "challenger", "fallback_version": NEW} if number % 10 == 0 else {}
        )
        given = prediction(number, START_MS + number, arm_weight=9000, **changes)
        found.add_prediction(0, number, given)
    found.advance()
    verdict = found.verdict()
    assert verdict is not None
    assert verdict.kind == "worse"
    assert verdict.reason.startswith("errors is worse")
    assert all(records.encode(each) for each in verdict.figures)


def test_there_is_no_verdict_before_the_first_request() -> None:
    assert begun(declaration(), fresh()).verdict() is None
    assert RolloutMonitor(declaration(), fresh()).verdict() is None


def test_new_monitor_starts_with_the_last_requests() -> None:
    topics = InputTopics("p", "l", [7, 8], [9])
    found = monitor.fresh_state(2, 1, None, topics)
    assert [each.offset for each in found.predictions] == [6, 7]
    assert [each.offset for each in found.labels] == [9]


def test_repeat_of_scoring_counts_once() -> None:
    found = begun(declaration(), fresh())
    for offset, number in enumerate(itertools.chain(range(5), range(5))):
        found.add_prediction(0, offset, shadowed(number, START_MS, 0.2, 0.3))
    assert found.state().evidence.requests == 5


def test_rollout_of_a_model_that_is_asked_over_http_alone_ends() -> None:
    http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
    stream: list[tuple[int, Prediction | Label]] = [
        (offset, msgspec.structs.replace(each, **http))
        if isinstance(each, Prediction)
        else (offset, msgspec.structs.replace(each, is_over_http=True))
        for offset, each in shadow_stream(0.0)
    ]
    found = begun(declaration(), fresh())
    play(found, stream)
    verdict = found.verdict()
    assert verdict is not None
    assert verdict.kind == "passed", verdict.reason
