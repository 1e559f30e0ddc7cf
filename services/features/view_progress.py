"""How far a view has been processed, in which generation, and where Redis keeps it. Pure."""

import dataclasses

import msgspec

from services.runtime import watermarks

ALL_PARTITIONS = -1
"""Means all partitions of a source: one heartbeat has the watermark that they have in common."""


class ViewProgress(msgspec.Struct, frozen=True):
    """How far a view has been processed in one partition; every sink has acknowledged all of it."""

    next_offset: int = 0
    watermarks_ms: dict[int, int] = {}
    """Watermark of each source partition; of `ALL_PARTITIONS` together in a view's internal topic."""
    stored: bytes = b""
    """The raw stored bytes, empty if nothing is stored: the next `ProgressUpdate` is based on them."""


@dataclasses.dataclass(frozen=True, slots=True)
class ViewPosition:
    """Generation and progress of a view in one partition of a stage: every write is based on it."""

    view: str
    generation: int
    stage_partition: str
    """Stage and partition, such as ``source-0``: the field of the progress hash."""
    progress: ViewProgress


@dataclasses.dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """A view's new progress in one partition of a stage, with the watermark to publish, if any."""

    before: ViewPosition
    after: ViewProgress
    partition: int
    watermark_ms: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ViewGeneration:
    """The stored generation of a view."""

    number: int
    definition: str
    """Digest of the view's definition."""
    start: str
    """``earliest``, or ``now``: without stored progress, a partition begins at the worker's offset."""
    unswept: bool = False
    """Rows of earlier generations are still to be deleted; see `RowStore.sweep`."""
    topics: str = ""
    """Digest of the identity of the topics that the progress is of; empty if it is unknown."""


def decode_progress(raw: bytes | None) -> ViewProgress:
    """Return the progress in these stored bytes; the progress of a new view if nothing is stored."""
    if raw is None:
        return ViewProgress()
    return msgspec.structs.replace(msgspec.json.decode(raw, type=ViewProgress), stored=raw)


def encode_progress(progress: ViewProgress) -> bytes:
    """Return the bytes to store; the same progress always has the same bytes."""
    watermarks_ms = dict(sorted(progress.watermarks_ms.items()))
    return msgspec.json.encode({"next_offset": progress.next_offset, "watermarks_ms": watermarks_ms})


def watermarks_key(project: str, view: str) -> str:
    """Return the key of a view's watermarks."""
    return watermarks.key(watermarks.of_view(project, view))


def watermark_keys(project: str, view: str) -> tuple[str, str]:
    """Return the keys of a view's watermarks and of their order; they change together."""
    name = watermarks.of_view(project, view)
    return watermarks.key(name), watermarks.order_key(name)


def progress_key(project: str, view: str) -> str:
    """Return the key of a view's progress hash, in the slot of its watermarks on a Redis Cluster."""
    return f"driftline:progress:{{{watermarks_key(project, view)}}}"
