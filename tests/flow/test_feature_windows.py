"""Payments out of order, on real servers: every kind of window equals SQL over the events in time."""

import asyncio
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from services.feature_store import repository
from services.feature_store.online_reader import OnlineReader
from services.runtime.settings import Settings
from streams import codec, topics
from tests.cards import write_cards
from tests.processes import Process
from tests.shop import START_MS, read_topic, stamp
from tests.waiting import LIVENESS_SECONDS

PARTITIONS = 3
LATENESS_MS = 30_000
END_MS = START_MS + 3 * 3_600_000
COUNTED = """
create table counted as
select * exclude newest from (
    select *, max(t) over (partition by partition order by place) as newest from sent
) where newest - t <= 30000
"""
BY_CARD = """
with known as (
    select asked.number, asked.t as moment, counted.*,
        counted.t - lag(counted.t) over (partition by asked.number order by counted.t) as gap,
        (asked.t - 3600000) // 60000 * 60000 as hour_from,
        (asked.t - 600000) // 60000 * 60000 as ten_from,
        asked.t // 600000 * 600000 as ten_end
    from asked left join counted on counted.card = asked.name and counted.t <= asked.t
), sessions as (
    select *, max(case when gap is null or gap > 300000 then t end) over (partition by number) as since,
        max(t) over (partition by number) as reached
    from known
)
select
    last(amount order by t, amount) filter (t >= hour_from and amount is not null) as last_amount,
    sum(amount) filter (t >= ten_end - 3600000 and t < ten_end) as hopping,
    sum(amount) filter (t >= ten_end - 600000 and t < ten_end) as tumbling,
    if(count(t) = 0, null,
        count(amount) filter (t >= since and t >= hour_from and moment - reached <= 300000)) as session,
    if(count(t) = 0, null, count(amount) filter (t >= ten_from)
        - count(amount) filter (t >= ten_from - 600000 and t < ten_from)) as faster,
    if(count(t) = 0, null, count(distinct merchant) filter (t >= hour_from)) as merchants,
    list(amount order by amount) filter (t >= hour_from and amount is not null) as amounts
from sessions group by number order by number
"""
BY_MERCHANT = """
select
    first(amount order by counted.t, amount) filter (
        amount is not null and counted.t >= (asked.t - 3600000) // 60000 * 60000
    ) as first_amount,
    if(count(counted.t) = 0, null,
        count(distinct card) filter (counted.t >= (asked.t - 3600000) // 60000 * 60000)) as cards
from asked left join counted on counted.merchant = asked.name and counted.t <= asked.t
group by number order by number
"""
LIVES = """
select
    sum(amount)::float as life_sum,
    if(count(counted.t) = 0, null, count(amount)) as payments,
    avg(amount) filter (counted.t < asked.t // 600000 * 600000)::float as mean_by_ten,
    if(count(counted.t) = 0, null, count(distinct merchant)) as count_distinct_merchant,
    last(merchant order by counted.t, merchant) filter (merchant is not null) as last_merchant,
    first(merchant order by counted.t, merchant) filter (
        merchant is not null and counted.t >= (asked.t - 3600000) // 60000 * 60000
    ) as first_merchant,
    last(paid order by counted.t, paid) filter (paid is not null) as last_paid
from asked left join (select *, amount > 100 as paid from counted) counted
    on counted.card = asked.name and counted.t <= asked.t
group by number order by number
"""
Payment = tuple[int, int, int, str, float | None, str | None]
"""Partition, offset, event time, card, amount, merchant."""


@pytest.fixture
def settings(
    kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path, unique_name: str
) -> Settings:
    repository = write_cards(tmp_path / "repository", unique_name)
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home", "feature_repo": repository}
    return Settings().model_copy(update={**changes, **http_ports})


ELDER = "card 9"


def payments(rng: random.Random) -> list[Payment]:
    """Return payments in order of arrival: most of them out of order, some late."""
    made = []
    for _ in range(900):
        time_ms = START_MS + rng.choice([rng.randrange(7_200_000), rng.randrange(240) * 30_000])
        delay_ms = rng.choice([0, rng.randint(0, LATENESS_MS), rng.choice([0, 0, 0, 600_000])])
        card = f"card {rng.randrange(6)}"
        amount = rng.choice([None, float(rng.randrange(-20, 500)), 12.0])
        made.append((time_ms + delay_ms, time_ms, card, amount, rng.choice([None, "mill", "dock", "hill"])))
    for days, minute in (
        (9, 0),
        (9, 7),
        (5, 1),
        (0, 30),
        (0, 90),
    ):  # a card with events too old to be kept separately
        time_ms = START_MS - days * 86_400_000 + minute * 60_000
        made.append((time_ms, time_ms, ELDER, rng.uniform(0, 200), rng.choice(["hut", "inn"])))
    places = [0] * PARTITIONS
    arrived: list[Payment] = []
    for _, time_ms, card, amount, merchant in sorted(made, key=lambda item: item[0]):
        partition = int(card[-1]) % PARTITIONS
        arrived.append((partition, places[partition], time_ms, card, amount, merchant))
        places[partition] += 1
    return arrived


def send(settings: Settings, topic: str, arrived: Sequence[Payment]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all", linger_ms=5)
    for partition, _, time_ms, card, amount, merchant in arrived:
        event = {"card": card, "event_time": stamp(time_ms), "amount": amount, "merchant": merchant}
        event["paid"] = None if amount is None else amount > 100
        producer.send(topic, json.dumps(event).encode(), partition=partition)
    for partition in range(PARTITIONS):
        producer.send(topic, None, key=b"-", partition=partition, headers=codec.heartbeat(END_MS))
    producer.close()


def rows_of(database: duckdb.DuckDBPyConnection, query: str, asked: Sequence[tuple[str, int]]) -> Any:
    database.execute("create or replace table asked (number int, name varchar, t bigint)")
    database.executemany("insert into asked values (?, ?, ?)", [(n, *pair) for n, pair in enumerate(asked)])
    return database.execute(query).fetchall()


def test_every_kind_of_window_equals_sql_over_the_events_in_time(
    settings: Settings, unique_name: str, tmp_path: Path
) -> None:
    rng = random.Random(11)
    plan = repository.apply(settings)
    arrived = payments(rng)
    send(settings, f"{unique_name}.payments", arrived)
    times_ms = [START_MS + rng.randrange(-600_000, 9_000_000) for _ in range(250)]
    cards = [(f"card {rng.randrange(7)}", time_ms) for time_ms in times_ms]
    lives = [*cards, *((ELDER, time_ms) for time_ms in times_ms[:100])]
    merchants = [(rng.choice(["mill", "dock", "nowhere"]), time_ms) for time_ms in times_ms]

    async def read(service: str, key: str, asked: Sequence[tuple[str, int]]) -> list[list[Any]]:
        async with OnlineReader.connect(settings, plan.service(service)) as reader:
            assert await reader.wait_for(END_MS - LATENESS_MS, timeout_seconds=LIVENESS_SECONDS)
            served = await reader.read({key: [name for name, _ in asked]}, np.array([at for _, at in asked]))
        return [column.tolist() for column in served.columns.values()]

    with Process("features", settings, log=tmp_path / "features.log"):
        by_card = asyncio.run(read("cards", "card", cards))
        by_merchant = asyncio.run(read("merchants", "merchant", merchants))
        of_life = asyncio.run(read("lives", "card", lives))

    with duckdb.connect() as database:
        database.execute(
            "create table sent "
            "(partition int, place int, t bigint, card varchar, amount double, merchant varchar)"
        )
        database.executemany("insert into sent values (?, ?, ?, ?, ?, ?)", arrived)
        database.execute(COUNTED)
        late = database.execute(
            "select partition, place from sent anti join counted using (partition, place)"
        )
        expected_late = sorted(late.fetchall())
        of_cards = rows_of(database, BY_CARD, cards)
        of_merchants = rows_of(database, BY_MERCHANT, merchants)
        of_lives = rows_of(database, LIVES, lives)

    set_aside = read_topic(settings.broker, topics.late(f"{unique_name}_by_card"))
    found_late = [record.headers[0][1].decode().split(":") for record in set_aside]
    assert sorted((int(partition), int(place)) for partition, place in found_late) == expected_late
    assert len(expected_late) > 20

    columns = [list(column) for column in zip(*of_cards, strict=True)]
    for served, expected in zip(by_card[:-1], columns[:-1], strict=True):
        np.testing.assert_array_equal(served, np.array(expected, dtype=np.float64))
    for value, amounts in zip(by_card[-1], columns[-1], strict=True):
        expected_p90 = amounts[math.ceil(0.9 * len(amounts)) - 1] if amounts else math.nan
        np.testing.assert_allclose(value, expected_p90, rtol=2**-7)
    for served, values in zip(by_merchant, zip(*of_merchants, strict=True), strict=True):
        np.testing.assert_array_equal(served, np.array(values, dtype=np.float64))
    for served, values in zip(of_life, zip(*of_lives, strict=True), strict=True):
        found = [value if isinstance(value, str) or not math.isnan(value or 0) else None for value in served]
        assert found == list(values)
    payments_sent = f"{len(arrived)} payments out of order, {len(expected_late)} late"
    print(f"{payments_sent}; {len(times_ms)} x 9 values equal, {len(lives)} x 7 of whole lives")
