"""What Redis holds for the heartbeats of views with an internal topic; see `view_heartbeats`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

from services.features.view_progress import decode_progress, progress_key, watermarks_key
from services.runtime.redis_commands import encode
from services.runtime.redis_pipeline import AsyncPipeline
from services.runtime.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class ForwardedProgress:
    """How far the source partitions have forwarded events to a view, and which heartbeats tell it."""

    generation: int
    watermarks_ms: Sequence[int | None]
    """Watermark of each source partition; None without progress in this generation."""
    written_ms: int | None
    """The last heartbeat of this generation that is in every partition of the view."""


class HeartbeatStore:
    """Reads how far the source partitions are, and keeps which heartbeats are written."""

    def __init__(self, pipeline: AsyncPipeline, project: str) -> None:
        """Use a pipeline to the online store, to own, for one Feast project."""
        self._pipeline = pipeline
        self._project = project

    @classmethod
    def connect(cls, settings: Settings, project: str) -> Self:
        """Make a store; the first command connects."""
        return cls(AsyncPipeline.connect(settings), project)

    async def close(self) -> None:
        """Close the connections."""
        await self._pipeline.close()

    async def claim(self, intervals_ms: Mapping[str, int]) -> list[str]:
        """Return the views whose heartbeats no process has claimed within their interval; claim them."""
        commands = [
            encode(("SET", _heartbeats_key(self._project, view), b"", "NX", "PX", interval_ms))
            for view, interval_ms in intervals_ms.items()
        ]
        replies = await self._pipeline.exchange(commands)
        return [view for view, reply in zip(intervals_ms, replies, strict=True) if reply is not None]

    async def forwarded(self, view: str, partitions: int) -> ForwardedProgress:
        """Read what the partitions of a view's source have stored in the current generation."""
        names = ["generation", "heartbeat", *(f"source-{number}" for number in range(partitions))]
        (found,) = await self._pipeline.exchange(
            [encode(("HMGET", progress_key(self._project, view), *names))]
        )
        generation = int(found[0] or 0)
        of_generation, _, written_ms = (found[1] or b"").partition(b":")
        progress = [decode_progress(raw) for raw in found[2:]]
        return ForwardedProgress(
            generation,
            [each.watermarks_ms.get(number) for number, each in enumerate(progress)],
            int(written_ms) if of_generation == b"%d" % generation else None,
        )

    async def note(self, view: str, generation: int, watermark_ms: int) -> None:
        """Store that a heartbeat is in every partition of a view."""
        value = f"{generation}:{watermark_ms}"
        await self._pipeline.exchange(
            [encode(("HSET", progress_key(self._project, view), "heartbeat", value))]
        )


def _heartbeats_key(project: str, view: str) -> str:
    return f"driftline:heartbeats:{watermarks_key(project, view)}"
