"""Payments with cards: 2 % of them are fraud, and the fraud changes on a day.

Before `World.change_day` fraud is *card testing*: several small payments on the web at different merchants
within an hour. From that day on most fraud is *takeover*: one to three large payments with the app, mostly at
night, for electronics and gift cards. A fraud becomes known by a chargeback, 1 to 20 days after the payment.
There is no message for a payment without one: after 20 days it is settled.

Everything follows from a `World` and its seed: no clock is read.

    python generator.py --days 30                             # files in sample/
    python generator.py --days 60 --broker 127.0.0.1:19092    # to Kafka, one day a second
"""

import argparse
import dataclasses
import datetime as dt
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

PAYMENTS = "payments"
CHARGEBACKS = "chargebacks"
SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
SETTLED_DAYS = 20
"""A payment without a chargeback within this time is settled: ``label.horizon_hours`` in model.yaml."""

CHANNELS = ("pos", "web", "app")
CATEGORIES = ("groceries", "fuel", "restaurants", "clothing", "travel", "electronics", "gift_cards")
_WEB, _APP = 1, 2
_ELECTRONICS, _GIFT_CARDS = 5, 6
_CHANNEL_SHARES = (0.5, 0.3, 0.2)
_CATEGORY_SHARES = (0.32, 0.14, 0.2, 0.14, 0.06, 0.09, 0.05)
_HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 9, 9, 10, 12, 11, 9, 9, 10, 12, 13, 12, 9, 7, 5, 3)
"""Payments by hour of the day (UTC), relative to each other."""
_NIGHT_HOURS = 6
_BURST_SHARE = 0.04
"""Share of the rightful payments that are the first of a shopping trip: two to four payments in an hour."""
_OLD_FRAUD_SHARE = 0.15
"""Share of the frauds after the change that are still card testing."""
_TYPICAL_SHARE = 0.8
"""Share of the frauds that have each of the marks of their kind: the channel, the category, the night."""
_SALE_MINUTES = 10
_SALE_FACTOR = 100
"""Payments a minute in a sale, as a multiple of the usual number."""


@dataclasses.dataclass(frozen=True)
class World:
    """What is generated."""

    seed: int = 7
    start: dt.date = dt.date(2025, 1, 1)
    days: int = 120
    change_day: int = 80
    """The first day, counted from 0, with the new fraud."""
    sale_days: tuple[int, ...] = (12, 95)
    """Days with ten minutes of a sale at noon."""
    users: int = 2000
    merchants: int = 500
    payments_a_day: int = 2000
    """Usual rightful payments a day, without shopping trips and sales."""
    fraud_share: float = 0.02
    """Share of fraud in the usual payments."""

    @property
    def start_ms(self) -> int:
        """The first midnight (UTC) in milliseconds since the epoch."""
        return round(dt.datetime.combine(self.start, dt.time(), dt.UTC).timestamp() * 1000)


@dataclasses.dataclass(frozen=True)
class Payments:
    """The payments in the order of event time; every array is ``(n_payments,)``."""

    event_time_ms: Integers
    """UTC."""
    user: Integers
    merchant: Integers
    amount: Floats
    """Euros, with cents."""
    channel: Integers
    """Index into `CHANNELS`."""
    category: Integers
    """Index into `CATEGORIES`."""
    chargeback_ms: Integers
    """Event time of the chargeback; 0 without one."""

    @property
    def fraud(self) -> Flags:
        """Which payments are fraud."""
        return self.chargeback_ms > 0


@dataclasses.dataclass(frozen=True)
class TopicEvents:
    """The events of one topic in the order of event time; n events."""

    event_time_ms: Integers
    """(n,), UTC."""
    keys: list[bytes]
    values: list[bytes]
    """JSON."""

    @property
    def known_time_ms(self) -> Integers:
        """(n,): when each event became known; at once."""
        return self.event_time_ms


class Payment(msgspec.Struct, frozen=True, gc=False):
    """A request: is this payment fraud? It is also the event of the features."""

    payment_id: str
    event_time: str
    user: str
    merchant: str
    amount: float
    channel: str
    category: str
    hour: int


class Chargeback(msgspec.Struct, frozen=True, gc=False):
    """A label: this payment was fraud."""

    payment_id: str
    event_time: str
    fraud: bool


def generate(world: World) -> Payments:
    """Return all payments of a world; the same world gives the same payments."""
    random = np.random.default_rng(world.seed)
    users = _Users(world, random)
    rightful, trips = _rightful(world, users, random), _trips(world, users, random)
    frauds = _frauds(world, users, random)
    fraud_count = len(frauds["event_time_ms"])
    columns = {name: np.concatenate([rightful[name], trips[name], frauds[name]]) for name in frauds}
    chargeback_ms = np.zeros(len(columns["user"]), dtype=np.int64)
    delay_days = 1 + (SETTLED_DAYS - 1.01) * random.beta(1.5, 3, fraud_count)
    chargeback_ms[-fraud_count:] = frauds["event_time_ms"] + _whole(delay_days * DAY_MS)
    order = np.argsort(columns["event_time_ms"], kind="stable")
    end_ms = world.start_ms + world.days * DAY_MS
    order = order[columns["event_time_ms"][order] < end_ms]
    return Payments(
        chargeback_ms=chargeback_ms[order], **{name: each[order] for name, each in columns.items()}
    )


def events(payments: Payments) -> dict[str, TopicEvents]:
    """Return the records of both topics by topic."""
    ids = [f"p{number:07d}" for number in range(len(payments.user))]
    names = [f"u{number:05d}" for number in range(int(payments.user.max(initial=0)) + 1)]
    keys = [name.encode() for name in names]
    encode = msgspec.json.Encoder().encode
    users = payments.user.tolist()
    rows = zip(
        ids,
        _rfc3339(payments.event_time_ms),
        map(names.__getitem__, users),
        (f"m{number:04d}" for number in payments.merchant.tolist()),
        payments.amount.tolist(),
        map(CHANNELS.__getitem__, payments.channel.tolist()),
        map(CATEGORIES.__getitem__, payments.category.tolist()),
        (payments.event_time_ms // HOUR_MS % 24).tolist(),
        strict=True,
    )
    values = [encode(Payment(*row)) for row in rows]
    frauds = np.flatnonzero(payments.fraud)
    frauds = frauds[np.argsort(payments.chargeback_ms[frauds], kind="stable")]
    times_ms = payments.chargeback_ms[frauds]
    chosen = frauds.tolist()
    return {
        PAYMENTS: TopicEvents(payments.event_time_ms, [keys[user] for user in users], values),
        CHARGEBACKS: TopicEvents(
            times_ms,
            [keys[users[row]] for row in chosen],
            [
                encode(Chargeback(ids[row], time, fraud=True))
                for row, time in zip(chosen, _rfc3339(times_ms), strict=True)
            ],
        ),
    }


# -- the parts -------------------------------------------------------------------------------------

_Columns = dict[str, npt.NDArray[Any]]
"""The columns of `Payments` by name, without that of the chargebacks."""


class _Users:
    """How often and how much each user pays; every array is ``(n_users,)``."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        weights = random.lognormal(0.0, 0.7, world.users)
        self.cumulated = np.cumsum(weights / weights.sum())
        self.amount = random.lognormal(3.2, 0.5, world.users)
        """Median of the amounts, in euros."""

    def draw(self, random: np.random.Generator, count: int) -> Integers:
        """Return users ``(count,)``, those who pay often more often."""
        return np.searchsorted(self.cumulated, random.random(count)).clip(max=len(self.amount) - 1)


def _rightful(world: World, users: _Users, random: np.random.Generator) -> _Columns:
    """Return usual payments, and those of the sales."""
    count = world.payments_a_day * world.days
    usual_ms = _times_ms(world, random, random.integers(0, world.days, count))
    sale = round(world.payments_a_day / (24 * 60) * _SALE_FACTOR) * _SALE_MINUTES
    sales_ms = [
        world.start_ms + day * DAY_MS + 12 * HOUR_MS + random.integers(0, _SALE_MINUTES * MINUTE_MS, sale)
        for day in world.sale_days
        if day < world.days
    ]
    return _payments(world, users, random, np.concatenate([usual_ms, *sales_ms]))


def _trips(world: World, users: _Users, random: np.random.Generator) -> _Columns:
    """Return shopping trips, which look a little like card testing."""
    count = round(world.payments_a_day * world.days * _BURST_SHARE)
    begins_ms = _times_ms(world, random, random.integers(0, world.days, count))
    sizes = random.integers(2, 5, count)
    times_ms = np.repeat(begins_ms, sizes) + random.integers(0, HOUR_MS, sizes.sum())
    return _payments(world, users, random, times_ms, np.repeat(users.draw(random, count), sizes))


def _payments(
    world: World, users: _Users, random: np.random.Generator, times_ms: Integers, user: Integers | None = None
) -> _Columns:
    count = len(times_ms)
    user = users.draw(random, count) if user is None else user
    return {
        "event_time_ms": times_ms,
        "user": user,
        "merchant": random.integers(0, world.merchants, count),
        "amount": _euros(users.amount[user] * random.lognormal(0.0, 0.8, count)),
        "channel": random.choice(len(CHANNELS), count, p=_CHANNEL_SHARES),
        "category": random.choice(len(CATEGORIES), count, p=_CATEGORY_SHARES),
    }


def _frauds(world: World, users: _Users, random: np.random.Generator) -> _Columns:
    """Return card testing and takeovers, each day in the shares of that day."""
    frauds_a_day = world.fraud_share * world.payments_a_day
    days = np.arange(world.days)
    old_share = np.where(days < world.change_day, 1.0, _OLD_FRAUD_SHARE)
    tests = random.poisson(frauds_a_day * old_share / 5.5)  # of 4 to 7 payments
    takeovers = random.poisson(frauds_a_day * (1 - old_share) / 2.0)  # of 1 to 3 payments
    parts = [
        _card_tests(world, users, random, np.repeat(days, tests)),
        _takeovers(world, users, random, np.repeat(days, takeovers)),
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _card_tests(world: World, users: _Users, random: np.random.Generator, days: Integers) -> _Columns:
    sizes = random.integers(4, 8, len(days))
    begins_ms = _times_ms(world, random, days)
    times_ms = np.repeat(begins_ms, sizes) + random.integers(0, 40 * MINUTE_MS, sizes.sum())
    columns = _payments(world, users, random, times_ms, np.repeat(users.draw(random, len(days)), sizes))
    count = len(times_ms)
    columns["amount"] = _euros(random.lognormal(1.6, 0.6, count))
    columns["channel"] = np.where(random.random(count) < _TYPICAL_SHARE, _WEB, columns["channel"])
    return columns


def _takeovers(world: World, users: _Users, random: np.random.Generator, days: Integers) -> _Columns:
    sizes = random.integers(1, 4, len(days))
    at_night = random.random(len(days)) < _TYPICAL_SHARE
    night_ms = world.start_ms + days * DAY_MS + random.integers(0, _NIGHT_HOURS * HOUR_MS, len(days))
    begins_ms = np.where(at_night, night_ms, _times_ms(world, random, days))
    times_ms = np.repeat(begins_ms, sizes) + random.integers(0, 3 * HOUR_MS, sizes.sum())
    columns = _payments(world, users, random, times_ms, np.repeat(users.draw(random, len(days)), sizes))
    count = len(times_ms)
    columns["amount"] = _euros(users.amount[columns["user"]] * random.uniform(2, 9, count))
    columns["channel"] = np.where(random.random(count) < _TYPICAL_SHARE, _APP, columns["channel"])
    bought = random.choice([_ELECTRONICS, _GIFT_CARDS], count)
    columns["category"] = np.where(random.random(count) < _TYPICAL_SHARE, bought, columns["category"])
    return columns


def _times_ms(world: World, random: np.random.Generator, days: Integers) -> Integers:
    """Return a time on each of these days ``(n,)``, more of them when people shop."""
    weights = np.array(_HOUR_WEIGHTS, dtype=np.float64)
    hours = random.choice(len(weights), len(days), p=weights / weights.sum())
    return world.start_ms + days * DAY_MS + hours * HOUR_MS + random.integers(0, HOUR_MS, len(days))


def _euros(amounts: Floats) -> Floats:
    return np.maximum(np.round(amounts, 2), 0.01)


def _whole(values: Floats) -> Integers:
    return np.round(values).astype(np.int64)


def _rfc3339(times_ms: Integers) -> list[str]:
    texts: list[str] = np.datetime_as_string(times_ms.astype("datetime64[ms]"), timezone="UTC").tolist()
    return texts


# -- the command -----------------------------------------------------------------------------------


def write(topics: Mapping[str, TopicEvents], folder: Path) -> None:
    """Write a file of JSON lines for each topic."""
    folder.mkdir(parents=True, exist_ok=True)
    for topic, each in topics.items():
        (folder / f"{topic}.jsonl").write_bytes(b"".join(value + b"\n" for value in each.values))


def send(topics: Mapping[str, TopicEvents], broker: str) -> None:
    """Send all records to Kafka, one day of event time a second, so that features and scoring can follow."""
    from kafka import KafkaProducer  # noqa: PLC0415  # files need no Kafka

    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=20)
    days = {topic: each.event_time_ms // DAY_MS for topic, each in topics.items()}
    for day in np.unique(np.concatenate(list(days.values()))).tolist():
        for topic, each in topics.items():
            first, last = np.searchsorted(days[topic], (day, day + 1)).tolist()
            for row in range(first, last):
                producer.send(topic, key=each.keys[row], value=each.values[row])
        producer.flush()
        time.sleep(1)
    producer.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate; write files or send to Kafka."""
    parser = argparse.ArgumentParser(description="Generate payments and chargebacks.")
    parser.add_argument("--days", type=int, default=World.days)
    parser.add_argument("--seed", type=int, default=World.seed)
    parser.add_argument("--folder", type=Path, default=Path("sample"))
    parser.add_argument("--broker", help="send to this Kafka instead of writing files")
    given = parser.parse_args(arguments)
    topics = events(generate(World(seed=given.seed, days=given.days)))
    if given.broker:
        send(topics, given.broker)
    else:
        write(topics, given.folder)


if __name__ == "__main__":
    main()
