"""The requests and labels that count: drift, learning, the archive and training agree with a simple oracle.

Generated are requests, labels, corrections, repeated labels and ids that are asked again, in two partitions
of each input, out of order, with restarts between.
"""

import dataclasses
import tempfile
import unittest.mock
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.drift.engine import DriftOutputs
from services.drift.monitored_model import SNAPSHOTS
from services.learning.learner import Learner
from services.learning.learner_state import fresh_state
from services.learning.session import CHECKPOINTS
from services.model_registry.model_inputs import InputKind
from services.monitoring.label_join import SKEW_MS_MAX
from services.monitoring.model_metrics import log_loss
from services.monitoring.waiting_labels import WAIT_MS
from services.retraining import extraction
from services.retraining.extraction import Wanted
from services.runtime.settings import Settings
from streams import records
from streams.inputs import LABEL, PREDICTION
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, MINUTE_MS, START_MS, Traffic
from tests.unit.learning import traffic as lessons
from tests.unit.retraining import archived_rows

PARTITIONS = 2
HORIZON_MS = 3 * HOUR_MS
END_MS = START_MS + 24 * HOUR_MS
KNOWN_MS = END_MS
DECLARED = scenario.declaration()
INTERVAL_MS = 2 * HOUR_MS
seeds = st.randoms(use_true_random=False)
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def logs(draw: Any) -> Traffic:
    """Draw few ids, so that many are asked again and have several labels; each up to 45 minutes late."""
    sides: list[list[Any]] = []
    for kind in (PREDICTION, LABEL):
        sides.append([])
        for home in range(PARTITIONS):
            drawn = st.tuples(st.integers(0, 3), st.integers(0, 420), st.integers(0, 45), st.integers(0, 1))
            found = sorted(draw(st.lists(drawn, max_size=30)), key=lambda each: each[1])
            log = [
                _record(kind, home, offset, number, START_MS + (minute - late) * MINUTE_MS, value)
                for offset, (number, minute, late, value) in enumerate(found)
            ]
            sides[-1].append(scenario.numbered([*log, END_MS]))
    return Traffic(*sides)


def _record(kind: int, home: int, offset: int, number: int, time_ms: int, value: int) -> Any:
    if kind == LABEL:
        return scenario.label(number, time_ms, float(value), partition=home, offset=offset)
    score = (1 + offset + 40 * home) / 100  # tells the requests of one id apart
    return scenario.prediction(
        number, time_ms, score=score, features=[score, "red"], source_partition=home, source_offset=offset
    )


@dataclasses.dataclass
class Request:
    """A request that counts."""

    record: records.Prediction
    counts_at_ms: int
    labels: list[tuple[records.Label, int]] = dataclasses.field(default_factory=list)
    """Its labels within the horizon, each with the time at which it counts."""

    def label(self, window_ms: int | None = None) -> float | None:
        """Return the value of the latest label, of those that came while the cohort was open."""
        end_ms = (self.record.event_time_ms // HOUR_MS + 1) * HOUR_MS + HORIZON_MS
        fit = [
            label
            for label, at_ms in self.labels
            if window_ms is None or at_ms // window_ms * window_ms < end_ms
        ]
        return max(fit, key=lambda each: each.event_time_ms).value if fit else None  # of equal ones the first


def in_order(traffic: Traffic) -> Iterator[tuple[int, int, Any]]:
    """Yield the time at which a record counts, its kind and the record, in the common order."""
    rows = []
    for kind, side in ((PREDICTION, traffic.predictions), (LABEL, traffic.labels)):
        for home, log in enumerate(side):
            bound_ms = 0
            for entry in log:
                record: Any = entry.record
                if not isinstance(record, int):
                    bound_ms = max(bound_ms, record.event_time_ms)
                    rows.append((bound_ms, kind, home, entry.offset, record))
    for counts_at_ms, kind, _, _, each in sorted(rows, key=lambda row: row[:4]):
        yield counts_at_ms, kind, each


def oracle(traffic: Traffic, window_ms: int) -> list[Request]:
    """Return the requests that count; waiting ones are removed at the ends of windows of this length."""
    requests: dict[str, list[Request]] = {}
    waiting: dict[str, list[tuple[records.Label, int]]] = {}
    for now_ms, kind, record in in_order(traffic):
        of_id, key = requests.setdefault(record.prediction_id, []), record.prediction_id
        early = waiting.get(key, [])
        if early and early[0][1] + WAIT_MS < now_ms:
            early = waiting.pop(key, []) and []
        last = of_id[-1] if of_id else None
        if kind == PREDICTION:
            if last is None or last.counts_at_ms + HORIZON_MS < now_ms:
                of_id.append(Request(record, now_ms))
                for label, _ in waiting.pop(key, []):
                    _take(of_id[-1], label, now_ms)
        elif last is not None and last.counts_at_ms >= now_ms // window_ms * window_ms - HORIZON_MS:
            _take(last, record, now_ms)
        else:
            waiting.setdefault(key, []).append((record, now_ms))
    return [each for found in requests.values() for each in found]


def _take(request: Request, label: records.Label, now_ms: int) -> None:
    delay_ms = label.event_time_ms - request.record.event_time_ms
    if -SKEW_MS_MAX <= delay_ms <= HORIZON_MS:
        request.labels.insert(0, (label, now_ms))  # the later first: it counts among those of one time


def played(traffic: Traffic, chance: Any) -> tuple[DriftOutputs, Any]:
    """Play the logs in random slices, with restarts."""
    engine, player, parts = scenario.new_engine(DECLARED, PARTITIONS), scenario.Player(traffic), []
    while places := player.open:
        parts.append(player.step(engine, chance.choice(places), chance.randrange(1, 20)))
        if chance.random() < 0.2:
            kept = SNAPSHOTS.decode(SNAPSHOTS.encode("m", "l", engine.state()), "m", "l")
            engine = scenario.new_engine(DECLARED, PARTITIONS, kept)
            player.seek(engine)
    return scenario.merge(parts), engine


def counted(outcomes: Sequence[records.Outcome]) -> dict[tuple[str, float | None], float]:
    """Return the labels that count, by id and score, as a reader of the outcomes finds them."""
    latest: dict[tuple[str, float | None], records.Outcome] = {}
    for each in sorted(outcomes, key=lambda each: each.correction):
        before = latest.get((each.prediction_id, each.score))
        assert each.correction == (0 if before is None else before.correction + 1)
        assert each.corrected_label == (None if before is None else before.label)
        latest[each.prediction_id, each.score] = each
    return {key: each.label for key, each in latest.items()}


def expected_labels(requests: Sequence[Request]) -> dict[tuple[str, float | None], float]:
    found = {(each.record.prediction_id, each.record.score): each.label() for each in requests}
    return {key: value for key, value in found.items() if value is not None}


@quick
@given(logs(), seeds)
def test_outcomes_and_cohorts_have_the_first_request_and_the_latest_label(
    traffic: Traffic, chance: Any
) -> None:
    outputs, engine = played(traffic, chance)
    requests = oracle(traffic, HOUR_MS)
    outcomes = [each for found in outputs.outcomes.values() for each in found]
    assert counted(outcomes) == expected_labels(requests)
    assert engine.totals.predictions - engine.totals.asked_again == len(requests)
    cohorts = {
        each.window_start_ms: each for each in outputs.drift if isinstance(each, records.PerformanceReport)
    }
    for start_ms, report in cohorts.items():
        inside = [each for each in requests if each.record.event_time_ms // HOUR_MS * HOUR_MS == start_ms]
        labels = [(each.record.score or 0.0, each.label(HOUR_MS)) for each in inside]
        losses = [log_loss(label, score) for score, label in labels if label is not None]
        whole = report.segments[0]
        assert (report.predictions, report.labels) == (len(inside), len(losses))
        realised = next(each.realised for each in whole.figures if each.measure == "log_loss")
        assert (realised is None) == (not losses)
        assert realised is None or abs(realised - sum(losses) / len(losses)) < 1e-5
    assert sum(each.predictions for each in cohorts.values()) == len(requests)


@settings(quick, max_examples=25)
@given(logs(), seeds)
def test_archive_and_training_have_the_first_request_and_the_latest_label(
    traffic: Traffic, chance: Any
) -> None:
    outputs, _ = played(traffic, chance)
    wanted = expected_labels(oracle(traffic, HOUR_MS))
    if not wanted:
        return
    rename = {"model": archived_rows.MODEL}
    asked = [
        msgspec.structs.replace(each.record, **rename)
        for log in traffic.predictions
        for each in log
        if isinstance(each.record, records.Prediction)
    ]
    outcomes = [
        msgspec.structs.replace(each, **rename) for found in outputs.outcomes.values() for each in found
    ]
    with tempfile.TemporaryDirectory() as folder:
        home = Settings(home=Path(folder))
        archived_rows.archive(home, asked, outcomes)
        declared = scenario.declaration(archived_rows.MODEL)
        data = extraction.read(
            home, Wanted(declared, {"x": InputKind.NUMBER, "colour": InputKind.TEXT}, KNOWN_MS)
        )
    rows = zip(data.rows["prediction_id"], data.features["x"], data.rows["label"], strict=True)
    assert {(key, x): label for key, x, label in rows} == wanted
    assert len(data.rows) == len(wanted)


class Recorder:
    """An estimator that knows the last label of each request, by its feature x."""

    def __init__(self, learned: dict[float, float] | None = None) -> None:
        self.learned = learned or {}

    def learn_one(self, row: dict[str, Any], label: float) -> None:
        self.learned[row["x"]] = label


def taught(traffic: Traffic, chance: Any) -> tuple[Learner, dict[float, float]]:
    """Return the learner after all records, with restarts, and the label of each request that it knows."""
    kept_by_name: dict[str, dict[float, float]] = {}

    def encode(model: Recorder) -> bytes:
        kept_by_name[str(len(kept_by_name))] = dict(model.learned)
        return str(len(kept_by_name) - 1).encode()

    def opened(state: Any = None) -> Learner:
        found = fresh_state("m", PARTITIONS, PARTITIONS, state)
        return Learner(lessons.declaration(), lessons.NAMES, Recorder, found)

    place = "services.learning.intervals.river_format"
    with (
        unittest.mock.patch(f"{place}.encode", encode),
        unittest.mock.patch(f"{place}.decode", lambda kept: Recorder(dict(kept_by_name[kept.decode()]))),
    ):
        learner = opened()
        player: Any = scenario.Player(traffic)
        while places := player.open:
            player.step(learner, chance.choice(places), chance.randrange(1, 20))
            if chance.random() < 0.2:
                learner = opened(CHECKPOINTS.decode(CHECKPOINTS.encode("m", "l", learner.state()), "m", "l"))
                player.seek(learner)
    estimator = learner.state().estimator
    return learner, {} if estimator is None else kept_by_name[estimator.decode()]


@quick
@given(logs(), seeds)
def test_learning_ends_with_the_first_request_and_the_latest_label(traffic: Traffic, chance: Any) -> None:
    learner, learned = taught(traffic, chance)
    wanted = expected_labels(oracle(traffic, INTERVAL_MS))
    assert learned == {score: label for (_, score), label in wanted.items()}
    assert learner.counts.learned == len(wanted)
