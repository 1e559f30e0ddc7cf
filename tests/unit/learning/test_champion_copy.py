"""A champion that no later version replaces stays in the topic."""

import structlog.testing

from services.learning.arms_update import VERSIONS_BEHIND_MAX, Announcement
from services.learning.champion_copy import ChampionCopies
from services.model_registry import learned_versions
from services.runtime.large_records import LargeRecordWriter
from streams import records
from streams.records import Arm, LearnedModel, ModelChanged

LATEST = ModelChanged(
    model="m",
    arms=[
        Arm(name="champion", version=3, weight=10_000, effective_from_ms=0),
        Arm(name="champion", version=90, weight=10_000, effective_from_ms=1000),
    ],
    changed_at_ms=0,
    reason="",
)


def published(version: int) -> LearnedModel:
    return LearnedModel(model="m", version=version, interval_end_ms=0, labels=1, estimator=b"e")


def newest(version: int, end_ms: int = 0) -> Announcement:
    return Announcement(version, end_ms, end_ms, 1)


def test_the_champion_in_effect_is_copied_once_before_it_is_overwritten() -> None:
    written: list[tuple[bytes | None, bytes | None]] = []
    writer = LargeRecordWriter(lambda batch: written.extend((key, value) for key, value, _ in batch))
    copies = ChampionCopies(lambda _, version: published(version), writer)
    for version in range(4, 100):
        copies.copy("m", newest(version), LATEST)
        assert bool(written) == (version > 3 + VERSIONS_BEHIND_MAX)
    assert VERSIONS_BEHIND_MAX < learned_versions.KEYS
    copies.copy("m", newest(130, 1000), LATEST)
    keys, values = zip(*written, strict=True)
    assert set(keys) == {b"m/champion"}
    decode = records.decoder_of(LearnedModel).decode
    assert [decode(value).version for value in values if value] == [3, 90]


def test_a_champion_that_is_gone_is_told_once_with_the_remedy() -> None:
    copies = ChampionCopies(lambda *_: None, LargeRecordWriter(lambda _: None))
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            copies.copy("m", newest(80), LATEST)
            copies.copy("m", newest(80), None)
    assert [(each["event"], each["version"]) for each in logs] == [("learning.champion_lost", 3)]
