"""Two fields that the requests of the trial have beside the real ones; both are made up.

- ``airline_forecast``: what the airline expects, in minutes: the delay with an error, until the airline turns
  its sign by mistake. A model that trusts it is better at first, and worse from then on.
- ``arrival_code``: 1 if the flight will arrive late. An application that fills in such a field from what
  is known only afterwards makes a leak.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from services.demo.playlist import Lane, Playlist, known_labels
from services.runtime.declaration import ModelDeclaration

if TYPE_CHECKING:
    from streams.producer import Record

FORECAST, CODE = "airline_forecast", "arrival_code"
_FORECAST_ERROR_MINUTES = 30.0
"""Standard deviation."""
_SEED = 2013


def add(playlist: Playlist, declaration: ModelDeclaration, turned_ms: int) -> Playlist:
    """Return the playlist whose requests have both fields; the forecast is turned from a time on."""
    identity: Any = msgspec.defstruct("Identity", [("id", str, msgspec.field(name=declaration.request.id))])
    decode = msgspec.json.Decoder(identity).decode
    known = known_labels(playlist, declaration.label)
    above = declaration.label.positive_above
    assert above is not None, "the model is binary"
    random = np.random.default_rng(_SEED)

    def with_fields(lane: Lane) -> Lane:
        errors = random.normal(0, _FORECAST_ERROR_MINUTES, len(lane.records)).tolist()
        records: list[Record] = []
        for time_ms, error, (key, value, headers) in zip(
            lane.event_times_ms.tolist(), errors, lane.records, strict=True
        ):
            assert value is not None, "a request has a value"
            delay = known.get(decode(value).id, (0, None))[1]
            expected = (0.0 if delay is None else delay) * (-1 if time_ms > turned_ms else 1) + error
            fields = {FORECAST: round(expected, 1), CODE: None if delay is None else int(delay > above)}
            records.append((key, _extended(value, fields), headers))
        return dataclasses.replace(lane, records=records)

    lanes = [with_fields(lane) if lane.topic == playlist.request_topic else lane for lane in playlist.lanes]
    return dataclasses.replace(playlist, lanes=tuple(lanes))


def _extended(value: bytes, fields: Mapping[str, float | None]) -> bytes:
    """Return a JSON object with more fields.

    >>> _extended(b'{"a":1}', {"b": None})
    b'{"a":1,"b":null}'
    """
    return value[:-1] + b"," + msgspec.json.encode(fields)[1:]
