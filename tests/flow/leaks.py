"""An oracle for served features, straight from the flights: what was known at a request's event time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable

from services.demo import flights
from services.feature_store import repository
from services.runtime import declaration_file
from services.runtime.settings import Settings

HOUR_MS = 3_600_000
HOP_MS = 600_000
"""Of the windows: their tail is rounded down to a multiple of it, their head is exact."""
TTL_MS = 3 * HOUR_MS


class Known:
    """One airport's events until any moment."""

    def __init__(self, times_ms: list[int], values: list[float | None]) -> None:
        self.times_ms = np.array(times_ms, dtype=np.int64)
        self.values = values
        self.sums = np.concatenate([[0.0], np.cumsum([value or 0.0 for value in values])])

    def count_and_mean(self, at_ms: int, window_ms: int) -> list[tuple[int, float | None]]:
        """Over ``(at - window, at]`` with its tail at the hop before, which may be in or out."""
        tail_ms = (at_ms - window_ms) // HOP_MS * HOP_MS
        last = int(np.searchsorted(self.times_ms, at_ms, side="right"))
        found = []
        for side in ("left", "right"):
            first = int(np.searchsorted(self.times_ms, tail_ms, side=side))
            count = last - first
            mean = float(self.sums[last] - self.sums[first]) / count if count else None
            found.append((count, mean))
        return found

    def latest(self, at_ms: int) -> float | None:
        """The newest value, if it is not too old."""
        last = int(np.searchsorted(self.times_ms, at_ms, side="right")) - 1
        return self.values[last] if last >= 0 and at_ms - self.times_ms[last] <= TTL_MS else None


def known_by_origin(topic: str, field: str) -> dict[str, Known]:
    """Read one field of a topic's events, by airport."""
    events = flights.load().topics[topic]
    times: dict[str, list[int]] = {}
    values: dict[str, list[float | None]] = {}
    for time_ms, raw in zip(events.event_time_ms.tolist(), events.values, strict=True):
        record = json.loads(raw)
        times.setdefault(record["origin"], []).append(time_ms)
        values.setdefault(record["origin"], []).append(record[field])
    return {origin: Known(times[origin], values[origin]) for origin in times}


def served(home: Path) -> list[dict[str, Any]]:
    """Return every archived prediction of a demo with its features by name."""
    settings = Settings().model_copy(update={"home": home})
    declaration = declaration_file.load_all(settings.models)["arrival_delay"]
    plan = repository.load(settings).service(declaration.features.service)
    names = [*declaration.features.from_request, *plan.feature_names]
    rows = DeltaTable(str(home / "archive" / "predictions")).to_pyarrow_table().to_pylist()
    return [
        {
            "event_time_ms": row["event_time_ms"],
            "lag_ms": row["features_lag_ms"],
            **{
                name: number if number is not None else text
                for name, number, text in zip(
                    names, row["features_number"], row["features_text"], strict=True
                )
            },
        }
        for row in rows
        if row["model"] == declaration.name
    ]


def differences(home: Path) -> tuple[int, list[str]]:
    """Compare all that was served with the oracle; return how many rows, and what differs."""
    departures = known_by_origin(flights.DEPARTED, "dep_delay")
    weather = known_by_origin(flights.OBSERVED, "temp")
    rows = served(home)
    wrong = []
    for row in rows:
        at_ms, origin = row["event_time_ms"], row["origin"]
        expected = departures[origin].count_and_mean(at_ms, HOUR_MS)
        got = (int(row["origin_departures_1h"] or 0), row["origin_delay_mean_1h"])
        if not any(_equal(got, variant) for variant in expected):
            wrong.append(f"{origin} at {at_ms}: departures {got}, not one of {expected}")
        if row["temp"] != weather[origin].latest(at_ms):
            wrong.append(f"{origin} at {at_ms}: temp {row['temp']}, not {weather[origin].latest(at_ms)}")
        if row["lag_ms"] != 0:
            wrong.append(f"{origin} at {at_ms}: features were {row['lag_ms']} ms behind")
    return len(rows), wrong


def _equal(got: tuple[int, float | None], expected: tuple[int, float | None]) -> bool:
    if got[0] != expected[0] or got[1] is None or expected[1] is None:
        return got == expected
    return abs(got[1] - expected[1]) < 1e-9
