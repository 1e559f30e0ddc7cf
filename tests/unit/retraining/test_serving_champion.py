"""The champion of a time is the one that serves then."""

import pytest

from services.retraining.serving_champion import version_at
from streams.records import Arm, ModelChanged


def change(*arms: Arm) -> ModelChanged:
    return ModelChanged(model="m", arms=list(arms), changed_at_ms=0, reason="")


def champion(version: int, from_ms: int) -> Arm:
    return Arm(name="champion", version=version, weight=10_000, effective_from_ms=from_ms)


OTHERS = (
    Arm(name="challenger", version=8, weight=9_000),
    Arm(name="champion", version=9, weight=10_000, segment={"country": ["NO"]}),
    Arm(name="frozen", version=1, weight=0, shadow=True),
)


@pytest.mark.parametrize(("at_ms", "version"), [(9, 2), (10, 2), (19, 2), (20, 3), (99, 3)])
def test_the_latest_that_is_in_effect_counts(at_ms: int, version: int) -> None:
    found = change(champion(2, 10), *OTHERS, champion(3, 20))
    assert version_at(found, at_ms) == version


def test_without_a_champion_of_all_requests_there_is_none() -> None:
    assert version_at(None, 5) is None
    assert version_at(change(*OTHERS), 5) is None
