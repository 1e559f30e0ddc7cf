"""Faults of workers and servers: in the end the store equals one batch computation over all records."""

import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from kafka import KafkaProducer

from services.feature_store import repository
from services.operations.local_servers import ports, valkey
from services.operations.local_servers.supervisor import Supervisor
from services.runtime.settings import Settings
from streams import records, topics
from tests import oracle
from tests.processes import Process
from tests.servers import Server
from tests.shop import (
    START_MS,
    Shop,
    Till,
    a_day,
    open_shop,
    order,
    read_topic,
    stored_hashes,
    wait_until_complete,
)
from tests.waiting import until

LATENESS_SECONDS = 60
EVENTS = 400
PART_MS = 7_200_000
FUTURE_MS = 32_503_680_000_000
"""The year 3000."""
WORKER = (sys.executable, "-m", "tests.workers.features")

LONGER_COUNT = (
    'Aggregation("amount", "count", timedelta(minutes=10), name="amount_count")',
    'Aggregation("amount", "count", timedelta(minutes=45), name="amount_count")',
)
NEW_VIEW = """
PREFIX_fresh = StreamFeatureView(
    name="PREFIX_fresh", entities=[shop], source=orders, timestamp_field="event_time",
    aggregations=[Aggregation("amount", "count", timedelta(minutes=20), name="orders")],
    schema=[Field(name="shop", dtype=String), Field(name="orders", dtype=Int64)],
    enable_tiling=True, tiling_hop_size=timedelta(minutes=1),
)
"""


@dataclasses.dataclass
class Scenario:
    """A shop with a separate online store, the records sent so far, and the running workers."""

    shop: Shop
    till: Till
    store: Server
    folder: Path
    parts: int = 0
    workers: list[Process] = dataclasses.field(default_factory=list)

    def worker(
        self, point: str = "", count: int = 1, number: int = signal.SIGKILL, *, failing_shop: str = ""
    ) -> Process:
        """Return a worker, with a fault at a point or on a shop if one is given; entering it starts it."""
        port = {"features_port": ports.free_port()}
        name = f"features-{len(self.workers)}"
        worker = Process(
            "features",
            self.shop.settings.model_copy(update=port),
            log=self.folder / f"{name}.log",
            command=WORKER,
            environment={
                "FAULT_POINT": point,
                "FAULT_COUNT": str(count),
                "FAULT_SIGNAL": str(int(number)),
                "FAULT_SHOP": failing_shop,
            },
        )
        self.workers.append(worker)
        return worker

    def send_part(self, *, shuffled: bool = False) -> None:
        """Send two hours of events, then a heartbeat."""
        self.send_events(shuffled=shuffled)
        self.till.beat(self.end_ms)

    def send_events(self, *, shuffled: bool = False) -> None:
        events = a_day(self.shop, EVENTS, seed=self.parts, start_ms=START_MS + self.parts * PART_MS)
        if shuffled:  # by less than the lateness of the orders; the readings have none
            rng = random.Random(self.parts)
            slack_ms = {self.shop.orders: LATENESS_SECONDS * 1000 - 1, self.shop.readings: 0}
            events.sort(key=lambda event: event[2] + rng.randint(0, slack_ms[event[0]]))
        self.till.send(events)
        self.parts += 1

    @property
    def end_ms(self) -> int:
        return START_MS + self.parts * PART_MS

    def wait(self) -> None:
        """Wait until all sent records are in the store."""
        wait_until_complete(self.shop, self.end_ms - 1 - LATENESS_SECONDS * 1000)

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.shop.settings.redis_url)

    def assert_equal(self, **otherwise: Mapping[str, int]) -> None:
        """Compare the store with the batch computation, and print the counters."""
        rows = oracle.visible(stored_hashes(self.shop))
        expected = oracle.expected_rows(
            self.shop, self.till.sent, lateness_ms=LATENESS_SECONDS * 1000, **otherwise
        )
        late = oracle.late(self.shop, self.till.sent, LATENESS_SECONDS * 1000)
        alive = [worker for worker in self.workers if worker.alive]
        for worker in alive:
            worker.wait_ready()
        counters = "; ".join(f"{worker.log.stem}: {counted(worker)}" for worker in alive)
        sent, fields = len(self.till.sent), sum(map(len, expected.values()))
        print(f"sent {sent}, of them late {late}; compared {len(expected)} rows, {fields} fields; {counters}")
        assert rows == expected


def counted(worker: Process) -> str:
    """Return the counters of a worker since its start."""
    results = ("applied", "repeated", "late", "no_entity", "invalid")
    counts = {result: worker.count("driftline_feature_events", result=result) for result in results}
    counts |= {"rows": worker.count("driftline_feature_rows")}
    counts |= {"refused": worker.count("driftline_feature_refusals")}
    counts |= {"dead letters": worker.count("driftline_dead_letters")}
    return ", ".join(f"{name} {count:.0f}" for name, count in counts.items())


def generations(scenario: Scenario) -> dict[str, int]:
    """Return the generation of each stream view."""
    views = [view.name for view in scenario.shop.plan.views if view.is_stream]
    with scenario.client() as client:
        project = scenario.shop.plan.project
        keys = [f"driftline:progress:{{driftline:watermarks:{project}.{view}}}" for view in views]
        return {view: int(client.hget(key, "generation") or 0) for view, key in zip(views, keys, strict=True)}


@pytest.fixture
def scenario(kafka: str, servers: Supervisor, unique_name: str, tmp_path: Path) -> Iterator[Scenario]:
    """Small slices, so that a fault affects many of them, and the shortest session timeout."""
    port = ports.free_port()

    store = Server(
        servers,
        lambda: valkey.start(servers, tmp_path / "valkey", port),
    )
    settings = Settings().model_copy(
        update={
            "broker": kafka,
            "redis_url": f"redis://127.0.0.1:{port}/0",
            "home": tmp_path / "home",
            "features_slice_records_max": 25,
            "session_timeout_seconds": 3.0,
        }
    )
    shop = open_shop(settings, unique_name, tmp_path, lateness_seconds=LATENESS_SECONDS)
    scenario = Scenario(shop, Till(shop), store, tmp_path)
    yield scenario
    scenario.till.close()
    store.kill()


def test_kill_at_each_point_of_a_slice_leaves_the_same_store(scenario: Scenario) -> None:
    for point in ("mid batch", "written", "progressed"):
        scenario.send_part()
        with scenario.worker(point, count=5) as worker:
            worker.wait_dead()
        scenario.workers.pop()
    with scenario.worker() as worker:
        scenario.wait()
        repeated = worker.count("driftline_feature_events", result="repeated")
        scenario.assert_equal()
    assert repeated > 0  # the kills came between a write and its progress


def test_event_on_which_the_code_fails_is_a_letter_and_every_other_event_counts(scenario: Scenario) -> None:
    """Both stages fail on it: views of the message key, and views whose events are forwarded."""
    scenario.send_events()
    last = {(sent.topic, sent.partition): sent for sent in scenario.till.sent}
    changed = [
        (topic, number, sent.time_ms, re.sub(rb'"(mill|dock)"', b'"poison"', sent.value))
        for (topic, number), sent in last.items()
    ]
    poison = [record for record in changed if b'"poison"' in record[3]]
    assert poison
    wanted = list(scenario.till.sent)
    scenario.till.send(poison)
    scenario.till.sent = wanted
    scenario.till.beat(scenario.end_ms)
    with scenario.worker(failing_shop="poison") as worker:
        scenario.wait()
        scenario.assert_equal()
        assert worker.count("driftline_dead_letters", kind="invalid") == 0
        assert worker.count("driftline_feature_events", result="defect") > 0
    found = [msgspec.json.decode(record.value, type=records.DeadLetter) for record in letters_of(scenario)]
    assert {letter.value for letter in found} == {value for _, _, _, value in poison}
    assert {letter.kind for letter in found} == {"defect"}
    assert all("OverflowError: poison does not fit at " in letter.reason for letter in found)


def letters_of(scenario: Scenario) -> list[Any]:
    """Return the records of the dead letters that concern the topics of this shop."""
    found = read_topic(scenario.shop.settings.broker, topics.DEAD_LETTERS.name)
    return [record for record in found if scenario.shop.prefix.encode() in (record.key or b"")]


def test_suspended_worker_that_resumes_a_write_changes_nothing(scenario: Scenario) -> None:
    scenario.send_part()
    with scenario.worker("before write", count=4, number=signal.SIGSTOP) as suspended:
        until(suspended.is_suspended, "the worker has suspended itself")
        with scenario.worker() as successor:
            scenario.wait()  # the other worker has taken over
            scenario.send_part()
            scenario.wait()
            before = stored_hashes(scenario.shop)
            suspended.resume()
            until(
                lambda: suspended.count("driftline_feature_refusals") > 0,
                "the write of the suspended worker is refused",
            )
            assert stored_hashes(scenario.shop) == before
            scenario.send_part()
            scenario.wait()
            successor.check()
            scenario.assert_equal()


def test_store_that_restarts_older_or_empty_is_rebuilt(scenario: Scenario) -> None:
    scenario.send_part()
    with scenario.worker():
        scenario.wait()
        with scenario.client() as client:
            client.save()
        scenario.send_part()
        scenario.wait()
        scenario.store.kill()
        scenario.store.start()  # with the file of the first part, and without new records
        scenario.wait()
        scenario.assert_equal()
        first = generations(scenario)
        scenario.send_events()
        with scenario.client() as client:
            client.flushall()
        scenario.till.beat(scenario.end_ms)
        scenario.wait()
        scenario.assert_equal()
        assert all(number > first[view] for view, number in generations(scenario).items())
        with scenario.client() as client:
            client.flushall()  # without new records
        until(lambda: all(generations(scenario).values()), "every view has begun a new generation")
        scenario.wait()
        scenario.assert_equal()


def test_joining_and_leaving_workers_lose_nothing(scenario: Scenario) -> None:
    scenario.send_part()
    with scenario.worker() as first, scenario.worker() as second:
        for number in range(5):  # ten joins and leaves
            leaving = (first, second)[number % 2]
            leaving.wait_ready()
            scenario.send_part()
            leaving.stop() if number else leaving.kill()
            scenario.send_events()
            leaving.start()
        scenario.till.beat(scenario.end_ms)
        scenario.wait()
        scenario.assert_equal()


def test_restarted_broker_loses_nothing(scenario: Scenario, broker: Server) -> None:
    scenario.send_part()
    with scenario.worker() as worker:
        worker.wait_ready()
        broker.kill()
        broker.start()
        scenario.send_part()
        scenario.wait()
        worker.check()
        scenario.assert_equal()


def test_shuffled_late_repeated_and_invalid_records_give_the_same_bytes_in_a_replay(
    scenario: Scenario, tmp_path: Path
) -> None:
    shop = scenario.shop
    scenario.send_events(shuffled=True)
    late_ms = scenario.end_ms - 1_800_000
    rng = random.Random(1)
    late = [(shop.orders, partition, late_ms, order(late_ms, 7, rng)) for partition in range(3)]
    scenario.till.beat(scenario.end_ms - 60_000)
    scenario.till.send(late)
    future = order(FUTURE_MS, 8, rng)  # a dead letter, so it makes no event late
    bad = [(shop.orders, partition, 0, value) for partition in range(2) for value in (b"{", future)]
    good = list(scenario.till.sent)
    scenario.till.send(bad)
    scenario.till.sent[:] = good
    scenario.send_part(shuffled=True)
    with scenario.worker() as worker:
        scenario.wait()
        repeats = repeat_forwarded(scenario, 50)
        scenario.send_part()
        scenario.wait()
        scenario.assert_equal()
        assert worker.count("driftline_feature_events", result="repeated") == repeats
        assert worker.count("driftline_dead_letters") == len(bad)
        before, first = stored_hashes(shop), generations(scenario)
        with scenario.client() as client:
            key = next(iter(before))
            client.hset(key, mapping=dict.fromkeys(client.hkeys(key), b"spoilt"))
        output = replay(scenario)
        assert all(view in output for view in first)
        until(
            lambda: all(number > first[view] for view, number in generations(scenario).items()),
            "every view has begun another generation",
        )
        scenario.wait()
        worker.wait_ready()
        assert stored_hashes(shop) == before
        scenario.assert_equal()
        assert worker.count("driftline_dead_letters") == len(bad)
    letters = [
        msgspec.json.decode(record.value, type=records.DeadLetter).topic
        for record in read_topic(shop.settings.broker, topics.DEAD_LETTERS.name)
        if record.value is not None  # a tombstone of a replay
    ]
    assert letters.count(shop.orders) == len(bad)
    for view in ("by_shop", "by_desk"):
        aside = read_topic(shop.settings.broker, topics.late(f"{shop.prefix}_{view}"))
        assert {record.value for record in aside} == {value for *_, value in late}


def repeat_forwarded(scenario: Scenario, count: int) -> int:
    """Forward some records again, as a worker does that is killed before it stores its progress."""
    name = topics.repartition(f"{scenario.shop.prefix}_by_shop")
    found = [record for record in read_topic(scenario.shop.settings.broker, name) if record.value][:count]
    producer = KafkaProducer(bootstrap_servers=scenario.shop.settings.broker)
    for record in found:
        producer.send(name, record.value, record.key, list(record.headers), record.partition)
    producer.close()
    return len(found)


def replay(scenario: Scenario, *arguments: str) -> str:
    """Run ``driftline features replay``; return its output."""
    command = [sys.executable, "-m", "services.operations.cli", "features", "replay", *arguments]
    environment = {**os.environ, **scenario.shop.settings.environment()}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_changed_and_new_views_are_built_while_the_others_stay(scenario: Scenario) -> None:
    shop = scenario.shop
    scenario.send_part()
    with scenario.worker() as worker:
        scenario.wait()
        scenario.assert_equal()
        first = generations(scenario)
        worker.stop()
        definitions = shop.settings.feature_repo / "definitions.py"
        changed = definitions.read_text().replace(*LONGER_COUNT)
        definitions.write_text(changed + NEW_VIEW.replace("PREFIX", shop.prefix))
        shop = dataclasses.replace(shop, plan=repository.apply(shop.settings))
        scenario.shop = shop
        scenario.send_part()
        worker.start()
        scenario.wait()
        worker.wait_ready()
        second = generations(scenario)
        scenario.assert_equal(windows={"amount_count": 45}, counting={"fresh": 20})
    renewed = {view for view in second if second[view] != first.get(view)}
    assert renewed == {f"{shop.prefix}_by_shop", f"{shop.prefix}_fresh"}
