"""Orders of a shop, and an archive of them as the archive process writes it."""

import dataclasses
import json
from collections.abc import Sequence

import pytest

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.write_buffer import WriteBuffer
from services.feature_store.plan import StreamSource
from services.runtime.settings import Settings
from streams import codec
from tests.shop import stamp

START_MS = 1_372_680_000_000
TOPIC = "orders"
SOURCE = StreamSource(
    TOPIC,
    "at",
    codec.parse_ddl("shop string, at timestamp not null, amount double"),
    ("shop",),
    lateness_ms=5000,
)


@dataclasses.dataclass
class OrderRecord:
    """The attributes of a consumer record that the archive reads."""

    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int = 0
    topic: str = TOPIC
    timestamp: int = 0
    key: bytes | None = None


def order(offset: int, second: float, amount: float = 1.0, shop: str | None = "mill") -> OrderRecord:
    at = stamp(START_MS + round(second * 1000))
    return OrderRecord(offset, json.dumps({"shop": shop, "at": at, "amount": amount}).encode())


def heartbeat(offset: int, second: int) -> OrderRecord:
    return OrderRecord(offset, None, codec.heartbeat(START_MS + second * 1000))


def archive(settings: Settings, *found: OrderRecord) -> None:
    """Write records into the archive."""
    pending = WriteBuffer(row_schemas.EVENTS, lambda record, error: pytest.fail(str(error)))
    pending.start((TOPIC, 0), 0, {})
    pending.add((TOPIC, 0), found)
    DeltaWriter(settings, row_schemas.EVENTS).append(pending.rows, pending.positions)
