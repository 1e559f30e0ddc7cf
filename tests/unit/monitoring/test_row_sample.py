"""Which ids are in a sample."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.model_registry.traffic_split import BUCKETS, Bucketing
from services.monitoring.row_sample import RowSample

IDS = [f"request-{number}" for number in range(20_000)]


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 1.0])
def test_the_sample_has_its_share(share):
    found = sum(map(RowSample(share).includes, IDS))
    assert found == pytest.approx(share * len(IDS), rel=0.05, abs=15)


def test_the_sample_is_the_same_in_all_processes_and_versions():
    tenth = RowSample(0.1)
    assert [name for name in IDS[:60] if tenth.includes(name)] == [
        "request-0",
        "request-4",
        "request-27",
        "request-43",
        "request-46",
    ]
    assert tenth.includes("bestellung-ü") is False


@given(st.text(max_size=20), st.floats(0.0001, 1), st.floats(0.0001, 1))
def test_a_smaller_sample_is_a_part_of_a_larger_one(identity, one, other):
    smaller, larger = sorted((one, other))
    assert not RowSample(smaller).includes(identity) or RowSample(larger).includes(identity)


def test_every_arm_has_the_same_share():
    buckets = Bucketing("m")
    first_half = [name for name in IDS if buckets.bucket_of(name) < BUCKETS // 2]
    assert sum(map(RowSample(0.1).includes, first_half)) == pytest.approx(0.1 * len(first_half), rel=0.1)
