"""A prediction or an outcome that its partition cannot hold is refused."""

import pytest

from streams import record_origin, records
from streams.json_decoder import InvalidRecordError


def prediction(model: str, partition: int, offset: int) -> records.Prediction:
    return records.Prediction(
        prediction_id="p", model=model, version=1, arm="champion", arm_weight=10_000, event_time_ms=0,
        scored_time_ms=0, source_partition=partition, source_offset=offset, features=[], features_lag_ms=0,
        score=0.5, prediction=1,
    )  # fmt: skip


def outcome(model: str, partition: int, offset: int) -> records.Outcome:
    return records.Outcome(
        prediction_id="p", model=model, version=1, arm="champion", event_time_ms=0, label_time_ms=0,
        source_partition=partition, source_offset=offset, label=1.0, score=0.5, loss=0.1,
    )  # fmt: skip


@pytest.mark.parametrize("source", [(3, 0), (3, 2**62), (-1, -1)])
def test_a_prediction_of_its_partition_or_over_http_is_taken(source: tuple[int, int]) -> None:
    record_origin.check_prediction(prediction("m", *source), "m", 3)


@pytest.mark.parametrize("source", [(2, 0), (3, -1), (3, -7), (-1, 0), (-2, 5), (2**31 - 1, 1)])
def test_a_prediction_of_another_partition_is_refused(source: tuple[int, int]) -> None:
    with pytest.raises(InvalidRecordError, match="which is impossible in partition 3: find the process"):
        record_origin.check_prediction(prediction("m", *source), "m", 3)


@pytest.mark.parametrize(
    "partition", [3, record_origin.outcome_source(3, 0), record_origin.outcome_source(3, 32_767)]
)
def test_an_outcome_of_its_partition_is_taken(partition: int) -> None:
    record_origin.check_outcome(outcome("m", partition, 0), "m", 3)


@pytest.mark.parametrize(
    "source", [(2, 0), (-1, 4), (3, -1), (record_origin.outcome_source(2, 3), 0), (-(2**31), 0)]
)
def test_an_outcome_of_another_partition_is_refused(source: tuple[int, int]) -> None:
    with pytest.raises(InvalidRecordError, match="which is impossible in partition 3: find the process"):
        record_origin.check_outcome(outcome("m", *source), "m", 3)


def test_a_record_of_another_model_is_refused() -> None:
    reason = "names the model 'other', but its topic belongs to the model 'm': find the process that wrote it"
    with pytest.raises(InvalidRecordError, match=f"the prediction {reason}"):
        record_origin.check_prediction(prediction("other", 0, 0), "m", 0)
    with pytest.raises(InvalidRecordError, match=f"the outcome {reason}"):
        record_origin.check_outcome(outcome("other", 0, 0), "m", 0)
