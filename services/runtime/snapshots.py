"""Snapshots of a state: a record of a compacted topic, as compressed msgpack; data only, no code."""

import dataclasses
import zlib
from typing import Generic, TypeVar

import msgspec

from services.runtime.decompression import decompressed

_COMPRESSION_LEVEL = 1
"""A third of the size for a few milliseconds; higher levels compress ids little better."""
SNAPSHOT_SECONDS_MIN = 2.0
"""Minimum time between snapshots at the ends of windows: a replay closes many windows per second."""
SNAPSHOT_SECONDS_MAX = 15.0
"""Maximum time between snapshots within a long window: the work that a restart repeats."""
SNAPSHOT_SHARE_MAX = 0.03
"""Maximum share of the time spent on snapshots: a large state is written less often."""

State = TypeVar("State", bound=msgspec.Struct)


class SnapshotError(ValueError):
    """A snapshot cannot be used. The message says what to do."""


class _Head(msgspec.Struct):
    format: int


class _Snapshot(msgspec.Struct):
    """A state, and the model and topic of its offsets; the state is decoded after these are checked."""

    format: int
    model: str
    label_topic: str
    state: msgspec.Raw


class Snapshots(Generic[State]):
    """Encodes and decodes the states of one kind."""

    def __init__(self, kind: type[State], version: int) -> None:
        """Take the state's type and the format version: raise it when old snapshots change their meaning."""
        self._format = version
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode_state = msgspec.msgpack.Decoder(kind).decode
        self._decode = msgspec.msgpack.Decoder(_Snapshot).decode
        self._decode_head = msgspec.msgpack.Decoder(_Head).decode

    def encode(self, model: str, label_topic: str, state: State) -> bytes:
        """Return the record's value."""
        snapshot = _Snapshot(self._format, model, label_topic, msgspec.Raw(self._encode(state)))
        return zlib.compress(self._encode(snapshot), _COMPRESSION_LEVEL)

    def label_topic(self, raw: bytes) -> str:
        """Return the topic of a record's labels; the record was decoded before."""
        return self._decode(decompressed(raw)).label_topic

    def decode(self, raw: bytes, model: str, label_topic: str | None = None) -> State:
        """Decode a record's value strictly; `SnapshotError` if its format, model or given topic differs."""
        try:
            data = decompressed(raw)
            found = self._decode_head(data).format
            if found != self._format:
                raise SnapshotError(
                    f"the snapshot of {model!r} has format {found}, this version reads {self._format}: "
                    f"run the version that wrote it, or delete the record to start without a state"
                )
            snapshot = self._decode(data)
            state = self._decode_state(snapshot.state)
        except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SnapshotError(f"the snapshot of {model!r} cannot be read: {error}") from error
        label_topic = snapshot.label_topic if label_topic is None else label_topic
        if (snapshot.model, snapshot.label_topic) != (model, label_topic):
            raise SnapshotError(
                f"the snapshot belongs to model {snapshot.model!r} and label topic {snapshot.label_topic}, "
                f"but model {model!r} with label topic {label_topic} is to be started: delete the record to "
                "start without a state"
            )
        return state


@dataclasses.dataclass
class SnapshotPace:
    """When the next snapshot is due: soon after a window has closed, within a bounded share of the time."""

    taken_seconds: float = 0.0
    """Monotonic time of the last snapshot."""
    cost_seconds: float = 0.0
    progressed: bool = False
    window_closed: bool = False
    urgent: bool = False
    """The state grows in memory until the next snapshot."""

    def note(self, windows_closed: int) -> None:
        """Note one step and the number of windows that it closed."""
        self.progressed = True
        self.window_closed |= windows_closed > 0

    def due(self, now_seconds: float) -> bool:
        """Tell whether a snapshot is due."""
        wait_seconds = SNAPSHOT_SECONDS_MIN if self.window_closed else SNAPSHOT_SECONDS_MAX
        wait_seconds = max(wait_seconds, self.cost_seconds / SNAPSHOT_SHARE_MAX)
        return self.progressed and (self.urgent or now_seconds - self.taken_seconds >= wait_seconds)

    def taken(self, started_seconds: float, ended_seconds: float) -> None:
        """Note a snapshot and its cost."""
        self.taken_seconds = ended_seconds
        self.cost_seconds = ended_seconds - started_seconds
        self.progressed = self.window_closed = self.urgent = False
