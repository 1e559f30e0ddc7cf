"""One record of a fast clock among honest traffic: nothing of the others is late, orphaned or lost."""

import random
from typing import Any, NamedTuple

import msgspec
import pytest

from services.drift.engine import DriftOutputs, Engine
from services.monitoring.label_join import JoinTotals
from services.monitoring.prediction_decoder import PredictionDecoder
from streams import codec, records
from streams.inputs import LABEL, PREDICTION
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, MINUTE_MS, START_MS

HOURS, A_HOUR = 30, 90
WALL_MS = 1_700_000_000_000
FAST_AT, AHEAD_MS = 5 * HOUR_MS, 23 * HOUR_MS


class Message(NamedTuple):
    """A record of Kafka, by the time at which it arrives."""

    arrives_ms: int
    kind: int
    value: bytes | None
    timestamp: int
    offset: int = 0
    topic: str = "t"
    partition: int = 0
    key: bytes | None = b"k"
    headers: codec.Headers = ()


def traffic(ahead_ms: int) -> list[Message]:
    """Return requests with labels after 1 to 59 minutes; the clock of a producer sets the timestamps."""
    rng, messages = random.Random(7), []
    for number in range(HOURS * A_HOUR):
        at_ms = START_MS + number * HOUR_MS // A_HOUR
        label_ms = at_ms + rng.randint(1, 59) * MINUTE_MS
        is_fast = number == FAST_AT * A_HOUR // HOUR_MS
        ahead = ahead_ms if is_fast else 0
        sent = scenario.prediction(number, at_ms + ahead, source_offset=number)
        messages.append(Message(at_ms, PREDICTION, records.encode(sent), at_ms + ahead))
        moment = (codec.EPOCH + label_ms * codec.MILLISECOND).isoformat()
        value = f'{{"id": "p{number}", "at": "{moment}", "y": {rng.choice([0, 30])}}}'.encode()
        messages.append(Message(label_ms, LABEL, value, label_ms))
    return sorted(messages)


def replayed(messages: list[Message], asked_over_http: int) -> list[Message]:
    """Return the same traffic, written years later; one of the answers is to a request over HTTP."""
    decode = records.decoder_of(records.Prediction).decode
    http = dict.fromkeys(("source_partition", "source_offset"), records.ASKED_OVER_HTTP)
    written = []
    for number, message in enumerate(messages):
        value, wall_ms = message.value, WALL_MS + number
        if message.kind == PREDICTION:
            sent = decode(value)
            changes = http if sent.prediction_id == f"p{asked_over_http}" else {}
            value = records.encode(msgspec.structs.replace(sent, scored_time_ms=wall_ms, **changes))
        written.append(message._replace(arrives_ms=wall_ms, timestamp=wall_ms, value=value))
    return written


def play(messages: list[Message]) -> tuple[JoinTotals, DriftOutputs]:
    """Decode in the order of arrival, as a worker whose clock is right; return the totals and all outputs."""
    engine: Engine = scenario.new_engine(scenario.declaration(lateness_hours=2))
    decoder = PredictionDecoder("drift", scenario.declaration(), engine)
    take = {PREDICTION: decoder.take_predictions, LABEL: decoder.take_labels}
    offsets, outputs = {PREDICTION: 0, LABEL: 0}, DriftOutputs()
    beat, arrives_ms = codec.heartbeat(START_MS + 72 * HOUR_MS), max(messages[-1].arrives_ms, WALL_MS)
    beats = [Message(arrives_ms, kind, None, arrives_ms, headers=beat) for kind in take]
    for message in [*messages, *beats]:
        sent: Any = message._replace(offset=offsets[message.kind])
        take[message.kind]([sent], message.arrives_ms)
        offsets[message.kind] += 1
        found = engine.advance()
        outputs.dead_letters += found.dead_letters
        outputs.drift += found.drift
    return engine.totals, outputs


def test_record_of_a_fast_clock_is_refused_and_costs_its_own_label_only() -> None:
    """Its clock is 23 hours ahead, and with it the timestamp that it gives the record."""
    totals, outputs = play(traffic(AHEAD_MS))
    (letter,) = outputs.dead_letters
    assert "82800.000 s ahead of the clock of this worker" in letter.reason
    assert (totals.joined, totals.orphaned) == (HOURS * A_HOUR - 1, 1)
    assert (totals.late_predictions, totals.late_labels, totals.revised_predictions) == (0, 0, 0)


@pytest.mark.parametrize("ahead_ms", [0, 30_000, 60_000])
def test_small_difference_of_clocks_costs_nothing(ahead_ms: int) -> None:
    totals, outputs = play(traffic(ahead_ms))
    assert (totals.joined, totals.orphaned, len(outputs.dead_letters)) == (HOURS * A_HOUR, 0, 0)


def test_answer_over_http_dated_ahead_of_a_replay_costs_its_own_label_only() -> None:
    """The example of the README: a request for the end of December while April is replayed."""
    totals, outputs = play(replayed(traffic(240 * 24 * HOUR_MS), FAST_AT * A_HOUR // HOUR_MS))
    assert (totals.predictions, totals.repeated, outputs.dead_letters) == (HOURS * A_HOUR, 0, [])
    assert (totals.joined, totals.orphaned + totals.misdated) == (HOURS * A_HOUR - 1, 1)


@pytest.mark.parametrize("after", [FAST_AT // HOUR_MS * A_HOUR, -1])
def test_label_over_http_dated_ahead_of_a_replay_costs_itself_only(after: int) -> None:
    """A label of today for a request of the April that is replayed, also if it is the first label."""
    messages = replayed(traffic(0), -1)
    number = next(at for at, each in enumerate(messages) if each.kind == LABEL and at > after)
    moment = (codec.EPOCH + WALL_MS * codec.MILLISECOND).isoformat().encode()
    given = messages[number].value or b""
    start = given.index(b'"at": "') + 7
    ahead = given[:start] + moment + given[given.index(b'"', start) :]
    messages[number] = messages[number]._replace(value=ahead, headers=[(codec.HTTP_HEADER, b"1")])
    totals, outputs = play(messages)
    assert outputs.dead_letters == []
    assert (totals.joined, totals.late_labels) == (HOURS * A_HOUR - 1, 0)
