"""The real year, read once: every event is sent when it was known, and what is served holds no later one."""

import collections
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from services.demo import flights
from services.demo.flights import (
    ARRIVED,
    DEPARTED,
    HOUR_MS,
    MINUTE_MS,
    OBSERVED,
    SCHEDULED,
    Timeline,
    TopicEvents,
)
from services.runtime.declaration_file import load as load_declaration
from services.runtime.settings import ROOT
from streams import codec

HOP_MS = 10 * MINUTE_MS
"""Hop of the feature views; the start of a window is rounded down to it."""
SAMPLE_DAYS = ("2013-03-08", "2013-07-22")
"""A day of snow and a day of thunderstorms."""


@pytest.fixture(scope="module")
def year() -> Timeline:
    return flights.load()


@pytest.fixture(scope="module")
def ids(year: Timeline) -> dict[str, list[str]]:
    """The first field of each record, by topic."""
    return {topic: ids_of(events) for topic, events in year.topics.items()}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The CSV files, read again and joined by another path: one row for each flight."""
    folder = flights.installed_folder()
    rows = pd.read_csv(folder / "flights.csv.zip")
    rows["flight_id"] = (
        rows.year.astype(str)
        + rows.month.map("-{:02d}".format)
        + rows.day.map("-{:02d}-".format)
        + rows.carrier
        + rows.flight.astype(str)
        + "-"
        + rows.origin
    )
    hour_ms = pd.to_datetime(rows.time_hour).dt.as_unit("ms").astype("int64")
    rows["scheduled_ms"] = hour_ms + rows.minute * MINUTE_MS
    rows["departed_ms"] = rows.scheduled_ms + rows.dep_delay * MINUTE_MS
    airports = pd.read_csv(folder / "airports.csv").set_index("faa").tzone
    local = pd.to_datetime(rows.departed_ms, unit="ms", utc=True)
    rows["at_gate_ms"] = np.nan
    for zone, group in rows[rows.arr_delay.notna()].groupby(
        rows.dest.map(airports).fillna("America/Puerto_Rico")
    ):
        left = local[group.index].dt.tz_convert(zone)
        minutes = group.arr_time // 100 * 60 + group.arr_time % 100 - left.dt.hour * 60 - left.dt.minute
        rows.loc[group.index, "at_gate_ms"] = group.departed_ms + minutes % 1440 * MINUTE_MS
    assert rows.flight_id.is_unique
    return rows.set_index("flight_id")


def raw(events: TopicEvents) -> list[bytes]:
    return events.values  # noqa: PD011  # not a pandas object


def decoded(events: TopicEvents, every: int = 1) -> list[Any]:
    decode = msgspec.json.Decoder().decode
    return [decode(value) for value in raw(events)[::every]]


def time_ms(text: str) -> int:
    return codec.epoch_ms(dt.datetime.fromisoformat(text))


def ids_of(events: TopicEvents) -> list[str]:
    """Read the first field, the id, without decoding the rest."""
    return [value[value.index(b":") + 2 : value.index(b'",')].decode() for value in raw(events)]


def test_year_is_complete(year: Timeline, table: pd.DataFrame) -> None:
    counts = {topic: len(raw(events)) for topic, events in year.topics.items()}
    assert counts == {SCHEDULED: 336_776, DEPARTED: 328_521, OBSERVED: 26_115, ARRIVED: 327_346}
    assert counts[DEPARTED] == table.dep_delay.count()
    assert counts[ARRIVED] == table.arr_delay.count()


@pytest.mark.parametrize("topic", [SCHEDULED, DEPARTED, OBSERVED, ARRIVED])
def test_events_are_sorted_by_time_and_then_by_id(
    year: Timeline, ids: dict[str, list[str]], topic: str
) -> None:
    events = year.topics[topic]
    names = np.array(ids[topic], dtype=object)
    steps = np.diff(events.event_time_ms)
    assert (steps >= 0).all()
    assert (names[:-1][steps == 0] < names[1:][steps == 0]).all()
    assert len(events.keys) == len(raw(events)) == len(events.event_time_ms) == len(events.known_time_ms)


@pytest.mark.parametrize("topic", [SCHEDULED, DEPARTED, ARRIVED])
def test_flight_ids_are_unique(ids: dict[str, list[str]], topic: str) -> None:
    assert len(set(ids[topic])) == len(ids[topic])


def test_no_event_is_sent_before_it_was_known(
    year: Timeline, ids: dict[str, list[str]], table: pd.DataFrame
) -> None:
    sent_ms = pd.DataFrame(
        {topic: pd.Series(year.topics[topic].event_time_ms, ids[topic]) for topic in (DEPARTED, ARRIVED)},
        index=table.index,
    )
    assert (sent_ms[DEPARTED].isna() == table.departed_ms.isna()).all()
    assert (sent_ms[ARRIVED].isna() == table.at_gate_ms.isna()).all()
    assert not (sent_ms[DEPARTED] < table.departed_ms).any()
    assert not (sent_ms[ARRIVED] < table.at_gate_ms).any()
    for events in year.topics.values():
        assert (events.known_time_ms <= events.event_time_ms).all()


def test_label_is_sent_half_an_hour_after_the_flight_or_at_the_gate(
    year: Timeline, ids: dict[str, list[str]], table: pd.DataFrame
) -> None:
    arrived = year.topics[ARRIVED]
    row = table.loc[ids[ARRIVED], ["departed_ms", "air_time", "at_gate_ms"]]
    taxied_ms = row.departed_ms + (row.air_time + 30) * MINUTE_MS
    assert (arrived.event_time_ms == np.maximum(taxied_ms.to_numpy(), row.at_gate_ms.to_numpy())).all()
    assert (arrived.known_time_ms == row.at_gate_ms.to_numpy()).all()


def test_weather_is_known_at_the_end_of_its_hour(year: Timeline) -> None:
    rows = pd.read_csv(flights.installed_folder() / "weather.csv")
    observed = pd.DataFrame(decoded(year.topics[OBSERVED])).set_index(["origin", "event_time"])
    end = pd.to_datetime(rows.time_hour) + pd.Timedelta(hours=1)
    rows = rows.assign(event_time=end.dt.strftime("%Y-%m-%dT%H:%M:%SZ")).set_index(["origin", "event_time"])
    columns = list(observed.columns)
    pd.testing.assert_frame_equal(
        observed.astype(float).sort_index(), rows[columns].astype(float).sort_index()
    )


def test_no_aircraft_leaves_before_its_own_request(year: Timeline, ids: dict[str, list[str]]) -> None:
    asked = pd.Series(year.topics[SCHEDULED].event_time_ms, index=ids[SCHEDULED])
    left = pd.Series(year.topics[DEPARTED].event_time_ms, index=ids[DEPARTED])
    asked = asked.reindex(left.index)
    assert (left > asked).all()
    assert (left <= asked + HOUR_MS).sum() > 100_000, "asked at the scheduled time, the answer would be there"


def test_records_match_the_declared_schemas(year: Timeline) -> None:
    declaration = load_declaration(ROOT / "models" / "arrival_delay" / "model.yaml")
    for declared in (declaration.request, declaration.label):
        decoder = declared.decoder()
        events = year.topics[declared.topic]
        for index in range(0, len(raw(events)), 501):
            event = decoder.decode(raw(events)[index])
            assert codec.epoch_ms(event.event_time) == events.event_time_ms[index]


def test_message_key_is_the_flight_or_the_airport(year: Timeline) -> None:
    for topic, events in year.topics.items():
        field = "origin" if topic == OBSERVED else "flight"
        for key, record in zip(events.keys[::503], decoded(events, 503), strict=True):
            assert key == record[field].encode()


def test_absent_values_are_null(year: Timeline) -> None:
    text = b"".join(raw(year.topics[OBSERVED]))
    assert b"NaN" not in text
    assert text.count(b'"wind_gust":null') == 20_778
    assert sum(b'"tailnum":null' in value for value in raw(year.topics[SCHEDULED])) == 2_512


def test_flight_has_the_local_hour_and_weekday_of_its_schedule(year: Timeline, table: pd.DataFrame) -> None:
    for request in decoded(year.topics[SCHEDULED], 997):
        row = table.loc[request["flight_id"]]
        day = dt.date(int(row.year), int(row.month), int(row.day))
        assert (request["hour"], request["weekday"]) == (row.hour, day.weekday())
        assert time_ms(request["event_time"]) == row.scheduled_ms - HOUR_MS
        assert (request["dest"], request["tailnum"] or "") == (
            row.dest,
            row.tailnum if row.tailnum == row.tailnum else "",
        )


# -- as served -------------------------------------------------------------------------------------


def merged(year: Timeline, start_ms: int, end_ms: int) -> Iterator[tuple[str, Any]]:
    """Play all topics in one order: by event time, and at equal times the requests last."""
    played = []
    for topic, events in year.topics.items():
        first, last = np.searchsorted(events.event_time_ms, (start_ms, end_ms))
        for index in range(first, last):
            moment = int(events.event_time_ms[index])
            played.append((moment, topic == SCHEDULED, topic, index))
    for moment, _, topic, index in sorted(played):
        record = msgspec.json.decode(raw(year.topics[topic])[index])
        assert time_ms(record["event_time"]) == moment
        yield topic, record


def serve(year: Timeline, start_ms: int, end_ms: int) -> dict[str, list[float]]:
    """Keep the features by hand, event by event, and answer each request from what has been seen."""
    left: dict[object, list[tuple[int, float]]] = collections.defaultdict(list)
    weather: dict[str, dict[str, Any]] = {}
    served = {}
    for topic, event in merged(year, start_ms - 4 * HOUR_MS, end_ms):
        moment = time_ms(event["event_time"])
        if topic == DEPARTED:
            left[event["origin"]].append((moment, event["dep_delay"]))
            left[event["carrier"], event["origin"]].append((moment, event["dep_delay"]))
        elif topic == OBSERVED:
            weather[event["origin"]] = event
        elif topic == SCHEDULED and moment >= start_ms:
            origin = event["origin"]
            delays_1h = seen_since(left[origin], moment - HOUR_MS)
            delays_3h = seen_since(left[origin], moment - 3 * HOUR_MS)
            carrier_3h = seen_since(left[event["carrier"], origin], moment - 3 * HOUR_MS)
            observed = weather.get(origin, {})
            served[event["flight_id"]] = [
                mean(delays_1h), mean(delays_3h), len(delays_1h), mean(carrier_3h),
                number(observed.get("temp")), number(observed.get("precip")), number(observed.get("visib")),
            ]  # fmt: skip
    return served


def seen_since(events: list[tuple[int, float]], start_ms: int) -> list[float]:
    return [delay for moment, delay in events if moment >= start_ms // HOP_MS * HOP_MS]


def mean(delays: list[float]) -> float:
    return sum(delays) / len(delays) if delays else float("nan")


def number(value: float | None) -> float:
    return float("nan") if value is None else value


def looked_up(table: pd.DataFrame, start_ms: int, end_ms: int) -> pd.DataFrame:
    """Compute the same from the tables alone, as one query for each flight."""
    weather = pd.read_csv(flights.installed_folder() / "weather.csv")
    weather["known_ms"] = pd.to_datetime(weather.time_hour).dt.as_unit("ms").astype("int64") + HOUR_MS
    weather = weather[weather.known_ms.between(start_ms - 24 * HOUR_MS, end_ms)]
    near = table[table.departed_ms.between(start_ms - 4 * HOUR_MS, end_ms)]
    rows = {}
    asked_ms = table.scheduled_ms - HOUR_MS
    for flight_id, flight in table[(asked_ms >= start_ms) & (asked_ms < end_ms)].iterrows():
        now_ms = flight.scheduled_ms - HOUR_MS
        here = near[(near.origin == flight.origin) & (near.departed_ms <= now_ms)]
        since_1h = here[here.departed_ms >= (now_ms - HOUR_MS) // HOP_MS * HOP_MS]
        since_3h = here[here.departed_ms >= (now_ms - 3 * HOUR_MS) // HOP_MS * HOP_MS]
        latest = (
            weather[(weather.origin == flight.origin) & (weather.known_ms <= now_ms)]
            .nlargest(1, "known_ms")
            .iloc[0]
        )
        rows[flight_id] = [
            since_1h.dep_delay.mean(), since_3h.dep_delay.mean(), len(since_1h),
            since_3h.dep_delay[since_3h.carrier == flight.carrier].mean(),
            latest.temp, latest.precip, latest.visib,
        ]  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


@pytest.mark.parametrize("day", SAMPLE_DAYS)
def test_served_value_contains_no_later_event(year: Timeline, table: pd.DataFrame, day: str) -> None:
    start_ms = time_ms(f"{day}T17:00:00+00:00")
    end_ms = start_ms + HOUR_MS
    served = pd.DataFrame.from_dict(serve(year, start_ms, end_ms), orient="index")
    expected = looked_up(table, start_ms, end_ms)
    assert len(served) > 30
    pd.testing.assert_frame_equal(served.sort_index(), expected.sort_index(), check_dtype=False)


# -- what Feast materialises -----------------------------------------------------------------------


def test_batch_sources_contain_each_aircraft_and_route_once_before_the_year(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    flights.write_batch_sources(tmp_path / "batch")
    aircraft = pd.read_parquet(tmp_path / "batch" / "aircraft_facts.parquet")
    routes = pd.read_parquet(tmp_path / "batch" / "route_facts.parquet")
    assert list(aircraft.columns) == ["tailnum", "year_built", "seats", "event_timestamp"]
    assert aircraft.tailnum.is_unique
    assert len(aircraft) == 3_322
    assert aircraft.year_built.isna().sum() == 70
    assert not routes.duplicated(["origin", "dest"]).any()
    assert set(zip(routes.origin, routes.dest, strict=True)) == set(
        zip(table.origin, table.dest, strict=True)
    )
    for facts in (aircraft, routes):
        assert (facts.event_timestamp < pd.Timestamp("2013-01-01", tz="UTC")).all()


def test_error_about_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(flights.FlightsMissingError, match=r"pip install 'driftline\[embedded\]'"):
        flights.installed_folder()
