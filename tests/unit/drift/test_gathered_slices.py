"""Slices of gathering workers: cut, repeated and overlapping ones lead to the same records."""

import dataclasses
import random
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.drift.gathered_slices import Slicer
from services.drift.monitored_model import GatheredSource
from streams import records
from streams.inputs import LABEL, PREDICTION, PartitionKey, TracedPrediction
from tests.property.test_drift_laws import PARTITIONS, kept, logs, new_engine
from tests.unit.drift import scenario

quick = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@dataclasses.dataclass
class Message:
    """A record of a topic of slices."""

    partition: int
    offset: int
    value: bytes | None
    topic: str = ""
    timestamp: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def sliced(kind, partition, entries):
    """Return the slices that a worker makes of a part of a log."""
    slicer = Slicer()
    scenario.feed(slicer, kind, partition, entries)
    return slicer.take_slices(kind, entries[0].offset, entries[-1].offset + 1)


class Broker:
    """The topics of slices, in the order in which workers wrote them."""

    def __init__(self):
        places = [PartitionKey(kind, number) for kind in (PREDICTION, LABEL) for number in range(PARTITIONS)]
        self.logs: dict[PartitionKey, list[Message]] = {place: [] for place in places}

    def write(self, place, pieces):
        log = self.logs[place]
        log += [Message(place.partition, len(log) + index, piece) for index, piece in enumerate(pieces)]

    def read(self, source, place, begin, end):
        take = source.handler.take_predictions if place.kind == PREDICTION else source.handler.take_labels
        take(self.logs[place][begin:end], 0)


def gathered(traffic, chance):
    """Cut every partition; workers crash, others continue from the committed offset, some write late."""
    broker = Broker()
    for kind, side in ((PREDICTION, traffic.predictions), (LABEL, traffic.labels)):
        for partition, log in enumerate(side):
            committed, hanging = 0, []
            while committed < len(log):
                end = min(len(log), committed + chance.randrange(1, 9))
                pieces = sliced(kind, partition, log[committed:end])
                fate = chance.random()
                if fate < 0.2:
                    hanging.append(pieces)  # the worker hangs before it writes
                    continue
                broker.write(PartitionKey(kind, partition), pieces)
                if fate < 0.3:
                    continue  # the worker crashes before it commits
                if hanging and fate < 0.5:
                    broker.write(PartitionKey(kind, partition), hanging.pop())
                committed = end
    return broker


@quick
@given(logs(), st.integers(0, 2**32))
def test_slices_of_any_workers_lead_to_the_same_records(traffic, seed):
    chance = random.Random(seed)
    expected = scenario.play(new_engine(), traffic)
    broker, engine = gathered(traffic, chance), new_engine()
    slices = GatheredSource(scenario.declaration(), engine, engine.state())
    source = slices.source()
    positions, parts = dict.fromkeys(broker.logs, 0), []
    while places := [place for place, at in positions.items() if at < len(broker.logs[place])]:
        place = chance.choice(places)
        end = positions[place] + chance.randrange(1, 4)
        broker.read(source, place, positions[place], end)
        positions[place] = end
        parts.append(engine.advance())
        if chance.random() < 0.2:  # the evaluating process crashes and restarts from its snapshot
            state = engine.state()
            slices.write_positions(state)
            engine = new_engine(kept(state))
            slices = GatheredSource(scenario.declaration(), engine, state)
            source = slices.source()
            positions = dict(source.positions())
    found = scenario.merge(parts)
    assert found.drift == expected.drift
    assert found.outcomes == expected.outcomes
    assert found.requests == expected.requests


@given(st.integers(1, 2500), st.integers(0, 400))
@settings(max_examples=20)
def test_large_slices_are_divided_without_a_gap(rows, width):
    entries = scenario.numbered(
        scenario.prediction(number, scenario.START_MS, features=["v" * width, "red"])
        for number in range(rows)
    )
    engine = new_engine()
    messages = [Message(0, index, piece) for index, piece in enumerate(sliced(PREDICTION, 0, entries))]
    source = GatheredSource(scenario.declaration(), engine, engine.state()).source()
    source.handler.take_predictions(messages, 0)
    assert [item.offset for item in _waiting(engine)] == list(range(rows))


def test_trace_heartbeat_and_rejection_travel_in_their_order():
    engine = new_engine()
    traced = TracedPrediction.of(scenario.prediction(1, scenario.START_MS), [("traceparent", b"00-1-2-01")])
    slicer = Slicer()
    slicer.add_prediction(0, 3, traced)
    slicer.add_heartbeat(PartitionKey(PREDICTION, 0), 4, scenario.START_MS + 5)
    slicer.reject(PartitionKey(PREDICTION, 0), 6, _letter())
    assert slicer.take_letters() == [_letter()]
    (piece,) = slicer.take_slices(PREDICTION, 3, 7)
    source = GatheredSource(scenario.declaration(), engine, engine.state()).source()
    source.handler.take_predictions([Message(0, 0, piece)], 0)
    first, rejected = _waiting(engine)
    assert first.record == traced
    assert (rejected.offset, rejected.record, rejected.counts_at_ms) == (6, None, scenario.START_MS + 6)


def _waiting(engine):
    """Take all records."""
    for place in engine.inputs.resume():
        engine.inputs.add_heartbeat(place, 10**6, scenario.START_MS + scenario.HOUR_MS)
    return sorted(engine.inputs.take(), key=lambda item: item.offset)


def _letter():
    return records.DeadLetter(
        service="drift", reason="r", topic="t", partition=0, offset=6, key=None, value=b"x", failed_time_ms=0
    )
