"""The share of predictions that the skew check samples."""

import hashlib

import pytest

from services.features.offline.prediction_sample import sample_bound


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 1.0])
def test_share_of_ids_below_the_bound_is_the_declared_one(share: float) -> None:
    ids = [hashlib.md5(f"r{n}".encode()).hexdigest() for n in range(10_000)]
    sampled = sum(digest < sample_bound(share) for digest in ids)
    assert sampled / len(ids) == pytest.approx(share, abs=0.02)


def test_smaller_sample_is_part_of_the_larger_one() -> None:
    assert sample_bound(0.1) < sample_bound(0.2) < sample_bound(0.9) < sample_bound(1.0)
