"""Kafka records without a broker."""

import dataclasses
from collections.abc import Sequence

import msgspec

from streams import records

TOPIC = "driftline.outcomes.m"


@dataclasses.dataclass
class Record:
    """A record as a consumer returns it."""

    offset: int
    value: bytes | None
    partition: int = 0
    topic: str = TOPIC
    timestamp: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class MemoryLetters:
    """Keeps the dead letters that are written."""

    def __init__(self) -> None:
        self.letters: list[records.DeadLetter] = []

    async def send_dead_letters(self, letters: Sequence[records.DeadLetter]) -> None:
        self.letters += letters


OUTCOME = records.Outcome(
    prediction_id="0-0",
    model="m",
    version=1,
    arm="champion",
    event_time_ms=0,
    label_time_ms=1,
    source_partition=0,
    source_offset=0,
    label=1.0,
    score=0.5,
    loss=0.7,
)
PREDICTION = records.Prediction(
    prediction_id="0-0",
    model="m",
    version=1,
    arm="champion",
    arm_weight=10_000,
    event_time_ms=0,
    scored_time_ms=3,
    source_partition=0,
    source_offset=0,
    features=[7, "UA", None, True],
    features_lag_ms=5,
    score=0.5,
    prediction=True,
)

LEDGER_ENTRY = records.LedgerEntry(
    entry_id="r/gate/floor",
    number=7,
    kind="gate",
    model="m",
    version=3,
    request_id="r",
    actor="retraining",
    at_ms=11,
    event_time_ms=5,
    evidence={"floor": 0.5},
    previous="0" * 64,
    hash="1" * 64,
)


def outcome(source_offset: int, source_partition: int = 0, source: str = "") -> bytes:
    """Return an encoded outcome of the label at this source offset."""
    return records.encode(
        msgspec.structs.replace(
            OUTCOME,
            prediction_id=f"{source_partition}-{source_offset}",
            source_partition=source_partition,
            source_offset=source_offset,
            source=source,
        )
    )
