"""A scored batch knows the arm of each row and the number of predictions of each version."""

import numpy as np
import pytest

from services.scoring.arm_router import NO_ARM
from services.scoring.scored_batch import COLLECTING, ScoredBatch
from streams.records import Arm

ARMS = [
    Arm(name="champion", version=1, weight=9000),
    Arm(name="new", version=2, weight=500),
    Arm(name="second", version=2, weight=500),
]


def batch(arm_of, failed=None):
    count = len(arm_of)
    return ScoredBatch(
        ids=[f"r{number}" for number in range(count)],
        event_times_ms=np.zeros(count, np.int64),
        features={},
        missing={},
        lag_ms=np.zeros(count, np.int64),
        arms=ARMS,
        arm_of=np.array(arm_of, np.int64),
        outputs=np.zeros(count),
        failed=failed or {},
        rejected=frozenset(),
    )


def test_a_row_without_an_arm_is_collected():
    found = batch([0, NO_ARM, 2])
    assert [found.arm(row) for row in range(3)] == [ARMS[0], COLLECTING, ARMS[2]]


@pytest.mark.parametrize(
    ("arm_of", "failed", "expected"),
    [
        ([0, 0, 1, 2, NO_ARM], {}, {"scored": 4, "collected": 1}),
        ([0, 0, 1], {1: "failed"}, {"scored": 2}),
        ([0], {0: "failed"}, {}),
    ],
)
def test_predictions_are_counted_without_failed_rows(arm_of, failed, expected):
    assert batch(arm_of, failed).rows_by_outcome() == expected
