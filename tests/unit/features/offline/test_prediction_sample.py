"""The sample of the skew check: which predictions it takes, and how far it moves."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from services.features.offline.archived_events import ServedPrediction
from services.features.offline.prediction_sample import LATEST_MS, PredictionSample, sample_bound
from services.features.offline.skew_report import SkewReport
from services.features.offline.skew_state import SkewState
from services.monitoring import inference_log
from services.runtime.settings import Settings
from tests.unit.features.offline.shop_model import MODEL, PLAN

SERVICE = PLAN.service("all")


def prediction(offset: int, time_ms: int, **changes: Any) -> ServedPrediction:
    request = json.dumps({"id": f"r{offset}", "at": "2013-07-01T12:00:00Z", "shop": "mill"}).encode()
    row = ServedPrediction(
        offset, f"r{offset}", time_ms, time_ms, 0, offset, [1.0, 2.0, 3.0], [None] * 3, 0, request
    )
    return row._replace(**changes)


@dataclasses.dataclass
class FakeArchive:
    """Holds the predictions of some partitions, and the requests up to an offset."""

    predictions: dict[int, list[ServedPrediction]]
    requests_archived: int = 1000

    def prediction_partitions(self, model: str) -> list[int]:
        return list(self.predictions)

    def position(self, table: str, topic: str, partition: int) -> int:
        if table == inference_log.EVENTS:
            return self.requests_archived
        return self.predictions[partition][-1].offset + 1

    def served(
        self, model: str, request_topic: str, partition: int, start: int, id_bound: str, rows_max: int
    ) -> list[ServedPrediction]:
        assert id_bound == sample_bound(1.0)
        return [row for row in self.predictions[partition] if row.offset >= start][:rows_max]


def read(
    *partitions: list[ServedPrediction], complete_ms: int = LATEST_MS, requests_max: int = 100, **changes: Any
) -> tuple[list[str], SkewState]:
    """Read once; return the ids of the sampled requests, and the state."""
    archive: Any = FakeArchive(dict(enumerate(partitions)), **changes)
    state = SkewState(SkewReport(model="m", features=[]), "d")
    sample = PredictionSample(Settings(skew_share=1.0), MODEL, SERVICE, requests_max)
    return [request.prediction_id for request in sample.read(archive, state, complete_ms)], state


def test_predictions_up_to_the_complete_time_are_taken() -> None:
    found, state = read([prediction(0, 10), prediction(1, 20), prediction(2, 30)], complete_ms=20)
    assert (found, state.next_offsets) == (["r0", "r1"], {0: 2})


def test_requests_and_served_texts_are_decoded() -> None:
    archive: Any = FakeArchive({0: [prediction(0, 10, texts=[None, "blue", None])]})
    state = SkewState(SkewReport(model="m", features=[]), "d")
    sample = PredictionSample(Settings(skew_share=1.0), MODEL, SERVICE, 100)
    (request,) = sample.read(archive, state, LATEST_MS)
    assert (request.request.shop, request.served) == ("mill", [1.0, "blue", 3.0])


@pytest.mark.parametrize("lag_ms", [7, None])
def test_prediction_from_a_lagging_view_is_counted_and_skipped(lag_ms: int | None) -> None:
    found, state = read([prediction(0, 10, features_lag_ms=lag_ms), prediction(1, 20)])
    assert (found, state.report.behind, state.next_offsets) == (["r1"], 1, {0: 2})


def test_prediction_with_other_features_or_without_its_request_is_unreadable() -> None:
    found, state = read(
        [prediction(0, 10, numbers=[1.0]), prediction(1, 20, request=None), prediction(2, 30)]
    )
    assert (found, state.report.unreadable, state.next_offsets) == (["r2"], 2, {0: 3})


def test_prediction_waits_until_its_request_is_archived() -> None:
    rows = [prediction(0, 10), prediction(1, 20, request=None), prediction(2, 30)]
    found, state = read(rows, requests_archived=1)
    assert (found, state.report.unreadable, state.next_offsets) == (["r0"], 0, {0: 1})


def test_partitions_move_through_time_together() -> None:
    """A full page ends at time 20, so the other partition stops there too."""
    full = [prediction(0, 10), prediction(1, 20), prediction(2, 30), prediction(3, 40)]
    short = [prediction(0, 15), prediction(1, 25)]
    found, state = read(full, [row._replace(prediction_id=f"s{row.offset}") for row in short], requests_max=4)
    assert (found, state.next_offsets) == (["r0", "r1", "s0"], {0: 2, 1: 1})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 1.0])
def test_share_of_ids_below_the_bound_is_the_declared_one(share: float) -> None:
    ids = [hashlib.md5(f"r{n}".encode()).hexdigest() for n in range(10_000)]
    sampled = sum(digest < sample_bound(share) for digest in ids)
    assert sampled / len(ids) == pytest.approx(share, abs=0.02)


def test_smaller_sample_is_part_of_the_larger_one() -> None:
    assert sample_bound(0.1) < sample_bound(0.2) < sample_bound(0.9) < sample_bound(1.0)
