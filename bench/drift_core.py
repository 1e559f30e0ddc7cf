"""CPU time of the drift process per row, by part of the work, and its memory after 1e5 to 1e7 rows.

One thread, rows of ten features, without Kafka. The rows are created outside the measured time. The core is
the work for each row with a reference: it is binned, counted, ranked and bet on. Before it, records are
decoded from JSON; the core runs when the engine advances over them, in order.
"""

import dataclasses
import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench import report
from bench.report import Figures
from services.drift import evaluator
from services.drift.binning.binning import PredictionRows
from services.drift.drift_state import starting_state
from services.drift.engine import Engine
from services.drift.evaluator import Evaluator
from services.drift.monitored_model import SNAPSHOTS
from services.drift.references import References
from services.drift.windows.window import DriftWindow, DriftWindowState
from services.monitoring import reference
from services.monitoring.label_join import JoinTotals
from services.monitoring.prediction_decoder import PredictionDecoder
from services.monitoring.row_sample import RowSample
from services.runtime.declaration import ModelDeclaration
from streams import codec, garbage, records
from streams.inputs import LABEL, PartitionKey

LONG_ROWS = (100_000, 1_000_000, 10_000_000)
PART_ROWS = 100_000
SLICE_ROWS = 2000
POOL_ROWS = 20_000
NUMBERS, CATEGORIES = 8, 2
START_MS, STEP_MS, HOUR_MS = 1_357_000_000_000 // 3_600_000 * 3_600_000, 100, 3_600_000


@dataclasses.dataclass
class Message:
    """A record as a Kafka consumer returns it."""

    offset: int
    value: bytes | None
    topic: str = "m"
    partition: int = 0
    timestamp: int = START_MS
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def main() -> None:
    """Run all measures and report."""
    garbage.settle()  # as the process does
    measures: dict[str, dict[str, Figures]] = {
        "binned, counted, ranked and bet on": dict(_core(LONG_ROWS)),
        "by part": _parts(),
        "one worker, by sample": {f"{share:g}": _sampled(share) for share in (1.0, 0.1, 0.01)},
    }
    report.write_measures("drift_core", measures, {}, "rows of ten features, one thread, CPU time")


def _core(lengths: Sequence[int]) -> Iterator[tuple[str, Figures]]:
    declared, known, pool = _declaration(), _reference(), _pool()
    references = References([known], declared)
    evaluating = Evaluator(declared, references, evaluator.initial_state())
    evaluating.follow(1, START_MS)
    window, done, seconds = _window(references, START_MS), 0, 0.0
    for rows in lengths:
        seconds_before, done_before = seconds, done
        while done < rows:
            predictions = _predictions(pool, done, SLICE_ROWS)
            started = time.process_time()
            if predictions[0].event_time_ms >= window.end_ms:
                evaluating.close_window(window, JoinTotals(), {})
                window = _window(references, window.end_ms)
            evaluating.add_rows(PredictionRows(predictions), list(range(len(predictions))), window)
            evaluating.take_alarms()
            seconds += time.process_time() - started
            done += len(predictions)
        yield (
            f"{rows:,} rows",
            {
                "rows_per_second": (done - done_before) / (seconds - seconds_before),
                "resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "state_kib": len(SNAPSHOTS.encode("m", "l", _state(declared, evaluating))) / 1024,
            },
        )


def _slices(pool: list[tuple[list[Any], float]]) -> Iterator[tuple[int, int, list[Message]]]:
    """Yield slices of encoded predictions: number of the first row, end of their event times, and records."""
    for begin in range(0, PART_ROWS, SLICE_ROWS):
        made = _predictions(pool, begin, SLICE_ROWS)
        yield (
            begin,
            made[-1].event_time_ms + 1,
            [
                Message(each.source_offset, records.encode(each), timestamp=each.event_time_ms)
                for each in made
            ],
        )


def _parts() -> dict[str, Figures]:
    declared, pool = _declaration(), _pool()
    engine = Engine(declared, starting_state(declared, 1, 1))
    engine.add_model(_promoted())
    decoder = PredictionDecoder("bench", declared, engine)
    decoding = evaluating = 0.0
    for begin, end_ms, raw in _slices(pool):
        started = time.process_time()
        decoder.take_predictions(raw, codec.LATEST_MS)
        decoding += time.process_time() - started
        started = time.process_time()
        engine.inputs.add_heartbeat(PartitionKey(LABEL, 0), begin, end_ms)
        engine.advance()
        evaluating += time.process_time() - started
    return {
        "JSON into records": {"rows_per_second": PART_ROWS / decoding},
        "records into reports": {"rows_per_second": PART_ROWS / evaluating},
        "both": {"rows_per_second": PART_ROWS / (decoding + evaluating)},
    }


def _sampled(share: float) -> Figures:
    declared, pool = _declaration(), _pool()
    engine = Engine(declared, starting_state(declared, 1, 1))
    engine.add_model(_promoted())
    sample = RowSample(share) if share < 1 else None
    decoder = PredictionDecoder("bench", declared, engine, sample=sample)
    seconds = 0.0
    for begin, end_ms, raw in _slices(pool):
        started = time.process_time()
        decoder.take_predictions(raw, codec.LATEST_MS)
        engine.inputs.add_heartbeat(PartitionKey(LABEL, 0), begin, end_ms)
        engine.advance()
        seconds += time.process_time() - started
    return {"rows_per_second": PART_ROWS / seconds}


def _state(declared: ModelDeclaration, evaluating: Evaluator) -> Any:
    state = starting_state(declared, 1, 1)
    state.evaluator = evaluating.state()
    return state


def _window(references: References, start_ms: int) -> DriftWindow:
    window = DriftWindow(DriftWindowState(start_ms, start_ms + HOUR_MS))
    window.choose_version(1, references.row_binner(1))
    return window


def _pool() -> list[tuple[list[Any], float]]:
    random = np.random.default_rng(1)
    numbers = random.normal(size=(POOL_ROWS, NUMBERS)).tolist()
    names = random.integers(0, 20, size=(POOL_ROWS, CATEGORIES)).tolist()
    scores = random.uniform(0.1, 0.9, size=POOL_ROWS).tolist()
    return [
        ([*row, *(f"n{name}" for name in named)], score)
        for row, named, score in zip(numbers, names, scores, strict=True)
    ]


def _predictions(pool: list[tuple[list[Any], float]], begin: int, rows: int) -> list[records.Prediction]:
    return [
        records.Prediction(
            prediction_id=f"p{number}",
            model="m",
            version=1,
            arm="champion",
            arm_weight=10_000,
            event_time_ms=START_MS + number * STEP_MS,
            scored_time_ms=0,
            source_partition=0,
            source_offset=number,
            features=pool[number % POOL_ROWS][0],
            features_lag_ms=0,
            score=pool[number % POOL_ROWS][1],
            prediction=0,
        )
        for number in range(begin, begin + rows)
    ]


def _reference() -> records.Reference:
    random = np.random.default_rng(2)
    numbers = [reference.of_numbers(f"x{index}", random.normal(size=10_000)) for index in range(NUMBERS)]
    names = [f"n{number}" for number in range(20)]
    categories = [
        records.FeatureReference(feature=f"c{index}", counts=[500] * 20, missing=0, categories=names)
        for index in range(CATEGORIES)
    ]
    score = reference.of_numbers("score", random.uniform(0.1, 0.9, size=10_000))
    return records.Reference(version=1, features=[*numbers, *categories], score=score, log_loss=0.6)


def _promoted() -> records.ModelChanged:
    arm = records.Arm(name="champion", version=1, weight=10_000)
    return records.ModelChanged(
        model="m", arms=[arm], changed_at_ms=START_MS, reason="bench", reference=_reference()
    )


def _declaration() -> ModelDeclaration:
    fields = {"id": "string", "at": "timestamp", "x": "float"}
    return ModelDeclaration.model_validate(
        {
            "name": "m",
            "owner": "bench",
            "task": "binary",
            "request": {"topic": "m.requests", "id": "id", "event_time": "at", "schema": fields},
            "features": {"from_request": ["x"]},
            "label": {
                "topic": "m.labels",
                "id": "id",
                "event_time": "at",
                "value": "x",
                "positive_above": 0,
                "horizon_hours": 1,
                "schema": fields,
            },
            "monitoring": {"window_hours": 1, "lateness_hours": 4},
        }
    )
