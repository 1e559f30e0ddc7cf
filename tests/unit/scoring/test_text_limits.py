"""A row whose prediction cannot be written is found before it is answered."""

import numpy as np
import pytest

from services.scoring.text_limits import characters_max, oversized
from streams import records, topics


def texts(*values):
    return np.array(values, dtype=object)


def test_rows_within_the_limit_pass_although_the_batch_is_above_it():
    assert oversized({"a": texts("xxx", "xxx"), "b": texts("y", None)}, ["a", "b"], 4) == {}


def test_a_row_above_the_limit_names_its_longest_feature():
    columns = {"a": texts("x", "x"), "b": texts("y", "y" * 9), "n": np.array([1.0, 2.0])}
    found = oversized(columns, ["a", "b", "n"], 4)
    assert list(found) == [1]
    assert found[1].startswith("its text features have 10 characters, the limit is 4")
    assert found[1].endswith("the longest is b")


@pytest.mark.parametrize("record_bytes_max", [topics.RECORD_BYTES_MAX, 64 << 10, 4 << 20])
@pytest.mark.parametrize("character", ["x", "\x00", '"', "é", "😀"])
def test_the_longest_permitted_row_fits_into_its_topic(character, record_bytes_max):
    """The id has its maximum length, and every number the longest form."""
    numbers = [-1.2345678901234567e-300] * 500
    text = character * characters_max(len(numbers) + 20, record_bytes_max)
    prediction = records.Prediction(
        prediction_id="\x00" * 512,
        model="m" * 63,
        version=2**31,
        arm="champion",
        arm_weight=10_000,
        event_time_ms=2**53,
        scored_time_ms=2**53,
        source_partition=-1,
        source_offset=-1,
        features=[*numbers, text],
        features_lag_ms=2**53,
        score=numbers[0],
        prediction=1,
        shadow_scores={f"shadow {number}": numbers[0] for number in range(10)},
    )
    size_bytes = len(records.encode(prediction)) + 512
    assert size_bytes < topics.PREDICTIONS.message_bytes_max(record_bytes_max)
