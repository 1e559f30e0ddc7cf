"""Public watermarks as they stand now, for tests that have no event loop."""

from collections.abc import Sequence
from typing import Any

from services.runtime import watermarks


def read_marks(client: Any, names: Sequence[str]) -> dict[str, int | None]:
    """Read watermarks through a `redis.Redis`."""
    return {name: watermarks.least(client.hgetall(watermarks.key(name))) for name in names}
