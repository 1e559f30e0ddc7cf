"""Seasons: parts of the event time (hour, weekday, month) with which a feature varies without drift. Pure."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.runtime.declaration import Part

_SIZES = {"hour": 24, "weekday": 7, "month": 12}


def seasons_of(times_ms: npt.NDArray[np.int64], parts: Sequence[Part]) -> npt.NDArray[np.int64]:
    """Return the season of each time ``(n_rows,)`` as one number; 0 without parts."""
    season = np.zeros(len(times_ms), dtype=np.int64)
    times = times_ms.astype("datetime64[ms]")
    for part in parts:
        season = season * _SIZES[part] + _part(times, part)
    return season


def _part(times: npt.NDArray[np.datetime64], part: Part) -> npt.NDArray[np.int64]:
    if part == "month":
        return times.astype("datetime64[M]").astype(np.int64) % 12
    if part == "weekday":
        return (times.astype("datetime64[D]").astype(np.int64) + 3) % 7  # the epoch was a Thursday
    return times.astype("datetime64[h]").astype(np.int64) % 24
