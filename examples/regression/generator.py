"""Orders of meals and their arrivals; the same seed gives the same orders.

python generator.py --days 30                             # files in sample/
python generator.py --days 30 --broker 127.0.0.1:19092    # to Kafka, one day a second
"""

import argparse
import datetime as dt
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ORDERS, ARRIVALS = "orders.placed", "orders.delivered"
START = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
ORDERS_A_DAY = 400
RESTAURANTS = 40


class Event(NamedTuple):
    """One record."""

    time: dt.datetime
    topic: str
    key: str
    value: bytes


def events(days: int, seed: int) -> list[Event]:
    """Return orders and arrivals in the order of event time."""
    random = np.random.default_rng(seed)
    pace = random.uniform(15, 35, RESTAURANTS)
    return sorted(_events(days, random, pace.tolist()))


def _events(days: int, random: np.random.Generator, pace: list[float]) -> Iterator[Event]:
    for number in range(days * ORDERS_A_DAY):
        day, place = number // ORDERS_A_DAY, int(random.integers(RESTAURANTS))
        hour, km = int(random.choice([11, 12, 13, 18, 19, 20, 21])), round(float(random.uniform(0.5, 8)), 1)
        placed = START + dt.timedelta(days=day, hours=hour, seconds=int(random.integers(3600)))
        rush = 1.4 if hour in (12, 19, 20) else 1.0
        minutes = round(rush * (pace[place] + 3 * km) * float(random.lognormal(0, 0.15)), 1)
        order, name = f"o{number:07d}", f"r{place:03d}"
        asked = {"order_id": order, "event_time": _text(placed), "restaurant": name, "km": km, "hour": hour}
        yield Event(placed, ORDERS, name, json.dumps(asked).encode())
        arrived = placed + dt.timedelta(minutes=minutes)
        told = {"order_id": order, "event_time": _text(arrived), "restaurant": name, "minutes": minutes}
        yield Event(arrived, ARRIVALS, name, json.dumps(told).encode())


def _text(moment: dt.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def write(found: Sequence[Event], folder: Path) -> None:
    """Write a file of JSON lines for each topic."""
    folder.mkdir(parents=True, exist_ok=True)
    for topic in (ORDERS, ARRIVALS):
        lines = [event.value + b"\n" for event in found if event.topic == topic]
        (folder / f"{topic}.jsonl").write_bytes(b"".join(lines))


def send(found: Sequence[Event], broker: str) -> None:
    """Send all records to Kafka, one day of event time a second, so that features and scoring can follow."""
    from kafka import KafkaProducer  # noqa: PLC0415  # files need no Kafka

    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=20)
    day = found[0].time.date()
    for event in found:
        if event.time.date() != day:
            day = event.time.date()
            producer.flush()
            time.sleep(1)
        producer.send(event.topic, key=event.key.encode(), value=event.value)
    producer.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate; write files or send to Kafka."""
    parser = argparse.ArgumentParser(description="Generate orders and arrivals.")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("sample"))
    parser.add_argument("--broker", help="send to this Kafka instead of writing files")
    given = parser.parse_args(arguments)
    found = events(given.days, given.seed)
    if given.broker:
        send(found, given.broker)
    else:
        write(found, given.folder)


if __name__ == "__main__":
    main()
