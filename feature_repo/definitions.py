"""The features of the flights. Driftline executes the stream views; Feast materialises the batch views.

Each `KafkaSource` declares its message key, event schema and lateness. Feast reads batch views from
``${DRIFTLINE_HOME}/batch``, and the history of stream views, which ``driftline features backfill`` writes,
from ``${DRIFTLINE_HOME}/history``. Each file has the entity's columns, ``event_timestamp`` and the features.
"""

import os
from datetime import timedelta
from pathlib import Path

from feast import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    KafkaSource,
    Project,
    StreamFeatureView,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, Int64, String

HOME = Path(os.environ.get("DRIFTLINE_HOME", ".driftline")).resolve()
BATCH, HISTORY = HOME / "batch", HOME / "history"
HOP = timedelta(minutes=10)

project = Project(name="driftline", description="Flights that left New York in 2013")

origin = Entity(
    name="origin", join_keys=["origin"], value_type=ValueType.STRING, description="Airport of departure"
)
carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING, description="Airline")
dest = Entity(name="dest", join_keys=["dest"], value_type=ValueType.STRING, description="Airport of arrival")
aircraft = Entity(
    name="aircraft",
    join_keys=["tailnum"],
    value_type=ValueType.STRING,
    description="One aircraft, by tail number",
)


def history_of(view: str) -> FileSource:
    """Return the file of a stream view's history, one row per change; ``features backfill`` writes it."""
    path = str(HISTORY / f"{view}.parquet")
    return FileSource(name=f"{view}_past", path=path, timestamp_field="event_timestamp")


def departures(view: str) -> KafkaSource:
    """Return the stream of departures, with the batch source of one view."""
    return KafkaSource(
        name=f"departures_of_{view}",
        topic="flights.departed",
        timestamp_field="event_time",
        message_format=JsonFormat(
            schema_json="flight_id string not null, event_time timestamp not null, flight string not null, "
            "carrier string not null, origin string not null, dest string not null, tailnum string, "
            "dep_delay double not null"
        ),
        watermark_delay_threshold=timedelta(0),
        batch_source=history_of(view),
        tags={"message_key": "flight"},
    )


def arrivals(view: str) -> KafkaSource:
    """Return the stream of arrivals, with the batch source of one view."""
    return KafkaSource(
        name=f"arrivals_of_{view}",
        topic="flights.arrived",
        timestamp_field="event_time",
        message_format=JsonFormat(
            schema_json="flight_id string not null, event_time timestamp not null, flight string not null, "
            "carrier string not null, dest string not null, arr_delay double not null"
        ),
        watermark_delay_threshold=timedelta(0),
        batch_source=history_of(view),
        tags={"message_key": "flight"},
    )


def weather(view: str) -> KafkaSource:
    """Return the stream of hourly observations, with the batch source of one view."""
    return KafkaSource(
        name=f"weather_of_{view}",
        topic="weather.observed",
        timestamp_field="event_time",
        message_format=JsonFormat(
            schema_json="origin string not null, event_time timestamp not null, temp double, dewp double, "
            "humid double, wind_speed double, wind_gust double, precip double, pressure double, visib double"
        ),
        watermark_delay_threshold=timedelta(0),
        batch_source=history_of(view),
        tags={"message_key": "origin"},
    )


origin_departures = StreamFeatureView(
    name="origin_departures",
    description="How late flights have been leaving the airport",
    entities=[origin],
    source=departures("origin_departures"),
    timestamp_field="event_time",
    aggregations=[
        Aggregation("dep_delay", "mean", timedelta(hours=1), name="origin_delay_mean_1h"),
        Aggregation("dep_delay", "mean", timedelta(hours=3), name="origin_delay_mean_3h"),
        Aggregation("dep_delay", "count", timedelta(hours=1), name="origin_departures_1h"),
    ],
    schema=[
        Field(name="origin", dtype=String),
        Field(name="origin_delay_mean_1h", dtype=Float64),
        Field(name="origin_delay_mean_3h", dtype=Float64),
        Field(name="origin_departures_1h", dtype=Float64),
    ],
    enable_tiling=True,
    tiling_hop_size=HOP,
    ttl=timedelta(hours=3),
)
carrier_departures = StreamFeatureView(
    name="carrier_departures",
    description="How late the airline's flights have been leaving the airport",
    entities=[carrier, origin],
    source=departures("carrier_departures"),
    timestamp_field="event_time",
    aggregations=[Aggregation("dep_delay", "mean", timedelta(hours=3), name="carrier_delay_mean_3h")],
    schema=[
        Field(name="carrier", dtype=String),
        Field(name="origin", dtype=String),
        Field(name="carrier_delay_mean_3h", dtype=Float64),
    ],
    enable_tiling=True,
    tiling_hop_size=HOP,
    ttl=timedelta(hours=3),
)
aircraft_departures = StreamFeatureView(
    name="aircraft_departures",
    description="How late the aircraft last left New York, if it did today",
    entities=[aircraft],
    source=departures("aircraft_departures"),
    timestamp_field="event_time",
    aggregations=[Aggregation("dep_delay", "last", timedelta(hours=16), name="aircraft_delay_last_16h")],
    schema=[
        Field(name="tailnum", dtype=String),
        Field(name="aircraft_delay_last_16h", dtype=Float64),
    ],
    enable_tiling=True,
    tiling_hop_size=HOP,
    ttl=timedelta(hours=16),
)
dest_arrivals = StreamFeatureView(
    name="dest_arrivals",
    description="How late flights have been reaching the destination",
    entities=[dest],
    source=arrivals("dest_arrivals"),
    timestamp_field="event_time",
    aggregations=[Aggregation("arr_delay", "mean", timedelta(hours=3), name="dest_delay_mean_3h")],
    schema=[
        Field(name="dest", dtype=String),
        Field(name="dest_delay_mean_3h", dtype=Float64),
    ],
    enable_tiling=True,
    tiling_hop_size=HOP,
    ttl=timedelta(hours=3),
)
carrier_arrivals = StreamFeatureView(
    name="carrier_arrivals",
    description="How late the airline's flights have been arriving",
    entities=[carrier],
    source=arrivals("carrier_arrivals"),
    timestamp_field="event_time",
    aggregations=[Aggregation("arr_delay", "mean", timedelta(hours=3), name="carrier_arrival_delay_mean_3h")],
    schema=[
        Field(name="carrier", dtype=String),
        Field(name="carrier_arrival_delay_mean_3h", dtype=Float64),
    ],
    enable_tiling=True,
    tiling_hop_size=HOP,
    ttl=timedelta(hours=3),
)
latest_weather = StreamFeatureView(
    name="latest_weather",
    description="The airport's latest hourly observation",
    entities=[origin],
    source=weather("latest_weather"),
    timestamp_field="event_time",
    schema=[
        Field(name="origin", dtype=String),
        Field(name="temp", dtype=Float64, description="Degrees Fahrenheit"),
        Field(name="dewp", dtype=Float64, description="Degrees Fahrenheit"),
        Field(name="humid", dtype=Float64, description="Per cent"),
        Field(name="wind_speed", dtype=Float64, description="Miles an hour"),
        Field(name="wind_gust", dtype=Float64, description="Miles an hour"),
        Field(name="precip", dtype=Float64, description="Inches"),
        Field(name="pressure", dtype=Float64, description="Millibars"),
        Field(name="visib", dtype=Float64, description="Miles"),
    ],
    ttl=timedelta(hours=3),
)

route_facts = FeatureView(
    name="route_facts",
    description="What does not change about a route",
    entities=[origin, dest],
    source=FileSource(
        name="route_facts", path=str(BATCH / "route_facts.parquet"), timestamp_field="event_timestamp"
    ),
    schema=[
        Field(name="origin", dtype=String),
        Field(name="dest", dtype=String),
        Field(name="distance", dtype=Float64, description="Miles"),
    ],
    ttl=timedelta(0),
)
aircraft_facts = FeatureView(
    name="aircraft_facts",
    description="What does not change about an aircraft",
    entities=[aircraft],
    source=FileSource(
        name="aircraft_facts", path=str(BATCH / "aircraft_facts.parquet"), timestamp_field="event_timestamp"
    ),
    schema=[
        Field(name="tailnum", dtype=String),
        Field(name="year_built", dtype=Int64),
        Field(name="seats", dtype=Int64),
    ],
    ttl=timedelta(0),
)

arrival_delay = FeatureService(
    name="arrival_delay",
    description="Inputs of the model arrival_delay",
    features=[
        origin_departures,
        carrier_departures,
        aircraft_departures,
        dest_arrivals,
        carrier_arrivals,
        latest_weather,
        route_facts,
        aircraft_facts,
    ],
)
recent_delays = FeatureService(
    name="recent_delays",
    description="Inputs of the model arrival_minutes",
    features=[origin_departures, carrier_departures, aircraft_departures, dest_arrivals, carrier_arrivals],
)
