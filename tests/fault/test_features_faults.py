"""Whatever happens to workers and servers: in the end the store holds what one batch of all records gives."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

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
class Scene:
    """A shop with an online store of its own, the records sent so far, and the processes at work."""

    shop: Shop
    till: Till
    store: Server
    folder: Path
    parts: int = 0
    workers: list[Process] = dataclasses.field(default_factory=list)

    def worker(self, point: str = "", count: int = 1, number: int = signal.SIGKILL) -> Process:
        """Make a worker, with a fault at a point if one is given; its block starts it."""
        port = {"features_port": ports.free_port()}
        name = f"features-{len(self.workers)}"
        worker = Process(
            "features",
            self.shop.settings.model_copy(update=port),
            log=self.folder / f"{name}.log",
            command=WORKER,
            environment={"FAULT_POINT": point, "FAULT_COUNT": str(count), "FAULT_SIGNAL": str(int(number))},
        )
        self.workers.append(worker)
        return worker

    def send_part(self, *, shuffled: bool = False) -> None:
        """Send two hours of events and a heartbeat behind them."""
        self.send_events(shuffled=shuffled)
        self.till.beat(self.end_ms)

    def send_events(self, *, shuffled: bool = False) -> None:
        events = a_day(self.shop, EVENTS, seed=self.parts, start_ms=START_MS + self.parts * PART_MS)
        if shuffled:  # by less than the lateness that the orders have; the readings have none
            rng = random.Random(self.parts)
            slack_ms = {self.shop.orders: LATENESS_SECONDS * 1000 - 1, self.shop.readings: 0}
            events.sort(key=lambda event: event[2] + rng.randint(0, slack_ms[event[0]]))
        self.till.send(events)
        self.parts += 1

    @property
    def end_ms(self) -> int:
        return START_MS + self.parts * PART_MS

    def wait(self) -> None:
        """Wait until all that was sent is in the store."""
        wait_until_complete(self.shop, self.end_ms - 1 - LATENESS_SECONDS * 1000)

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.shop.settings.redis_url)

    def assert_equal(self, **otherwise: Mapping[str, int]) -> None:
        """Compare the store with the batch, and print the account."""
        rows = oracle.visible(stored_hashes(self.shop))
        expected = oracle.expected_rows(
            self.shop, self.till.sent, lateness_ms=LATENESS_SECONDS * 1000, **otherwise
        )
        late = oracle.late(self.shop, self.till.sent, LATENESS_SECONDS * 1000)
        alive = [worker for worker in self.workers if worker.alive]
        for worker in alive:
            worker.wait_ready()
        told = "; ".join(f"{worker.log.stem}: {account(worker)}" for worker in alive)
        sent, fields = len(self.till.sent), sum(map(len, expected.values()))
        print(f"sent {sent}, of them late {late}; compared {len(expected)} rows, {fields} fields; {told}")
        assert rows == expected


def account(worker: Process) -> str:
    """Return what a worker has counted since its start."""
    results = ("applied", "repeated", "late", "no_entity", "invalid")
    counts = {result: worker.count("driftline_feature_events", result=result) for result in results}
    counts |= {"rows": worker.count("driftline_feature_rows")}
    counts |= {"refused": worker.count("driftline_feature_refusals")}
    counts |= {"dead letters": worker.count("driftline_dead_letters")}
    return ", ".join(f"{name} {count:.0f}" for name, count in counts.items())


def generations(scene: Scene) -> dict[str, int]:
    """Return the generation of each stream view."""
    views = [view.name for view in scene.shop.plan.views if view.is_stream]
    with scene.client() as client:
        keys = [f"driftline:progress:{{driftline:watermarks:{view}}}" for view in views]
        return {view: int(client.hget(key, "generation") or 0) for view, key in zip(views, keys, strict=True)}


@pytest.fixture
def scene(kafka: str, servers: Supervisor, unique_name: str, tmp_path: Path) -> Iterator[Scene]:
    """Small slices, so that a fault meets many of them, and the shortest session."""
    port = ports.free_port()

    store = Server(
        servers,
        lambda: valkey.start(servers, tmp_path / "valkey", port),
        ready_seconds_max=valkey.READY_SECONDS_MAX,
    )
    settings = Settings().model_copy(
        update={
            "broker": kafka,
            "redis_url": f"redis://127.0.0.1:{port}/0",
            "home": tmp_path / "home",
            "features_slice_records_max": 25,
            "session_timeout_seconds": 6.0,
        }
    )
    shop = open_shop(settings, unique_name, tmp_path, lateness_seconds=LATENESS_SECONDS)
    scene = Scene(shop, Till(shop), store, tmp_path)
    yield scene
    scene.till.close()
    store.kill()


def test_killed_at_each_point_of_a_slice_it_leaves_no_trace(scene: Scene) -> None:
    for point in ("mid batch", "written", "progressed"):
        scene.send_part()
        with scene.worker(point, count=5) as worker:
            worker.wait_dead()
        scene.workers.pop()
    with scene.worker() as worker:
        scene.wait()
        repeated = worker.count("driftline_feature_events", result="repeated")
        scene.assert_equal()
    assert repeated > 0  # so the kills came between a write and its progress


def test_zombie_that_wakes_up_in_the_middle_of_a_write_changes_nothing(scene: Scene) -> None:
    scene.send_part()
    with scene.worker("before write", count=4, number=signal.SIGSTOP) as zombie:
        until(zombie.is_suspended, "it has stopped itself")
        with scene.worker() as heir:
            scene.wait()  # so the other one has taken over
            scene.send_part()
            scene.wait()
            before = stored_hashes(scene.shop)
            zombie.resume()
            until(
                lambda: zombie.count("driftline_feature_refusals") > 0,
                "the zombie is refused",
            )
            assert stored_hashes(scene.shop) == before
            scene.send_part()
            scene.wait()
            heir.check()
            scene.assert_equal()


def test_store_that_comes_back_older_or_empty_is_healed(scene: Scene) -> None:
    scene.send_part()
    with scene.worker():
        scene.wait()
        with scene.client() as client:
            client.save()
        scene.send_part()
        scene.wait()
        scene.store.kill()
        scene.store.start()  # with the file of the first part, and nothing new comes
        scene.wait()
        scene.assert_equal()
        first = generations(scene)
        scene.send_events()
        with scene.client() as client:
            client.flushall()
        scene.till.beat(scene.end_ms)
        scene.wait()
        scene.assert_equal()
        assert all(number > first[view] for view, number in generations(scene).items())
        with scene.client() as client:
            client.flushall()  # and nothing new comes
        until(lambda: all(generations(scene).values()), "every view has begun anew")
        scene.wait()
        scene.assert_equal()


def test_members_that_join_and_leave_share_the_work_and_lose_nothing(scene: Scene) -> None:
    scene.send_part()
    with scene.worker() as first, scene.worker() as second:
        for number in range(5):  # ten joins and leaves
            leaving = (first, second)[number % 2]
            leaving.wait_ready()
            scene.send_part()
            leaving.stop() if number else leaving.kill()
            scene.send_events()
            leaving.start()
        scene.till.beat(scene.end_ms)
        scene.wait()
        scene.assert_equal()


def test_broker_that_is_killed_and_comes_back_loses_nothing(scene: Scene, broker: Server) -> None:
    scene.send_part()
    with scene.worker() as worker:
        worker.wait_ready()
        broker.kill()
        broker.start()
        scene.send_part()
        scene.wait()
        worker.check()
        scene.assert_equal()


def test_shuffled_late_repeated_and_bad_records_and_a_replay_of_them_give_the_same_bytes(
    scene: Scene, tmp_path: Path
) -> None:
    shop = scene.shop
    scene.send_events(shuffled=True)
    behind_ms = scene.end_ms - 1_800_000
    rng = random.Random(1)
    late = [(shop.orders, partition, behind_ms, order(behind_ms, 7, rng)) for partition in range(3)]
    scene.till.beat(scene.end_ms - 60_000)
    scene.till.send(late)
    future = order(FUTURE_MS, 8, rng)  # behind which nothing becomes late
    bad = [(shop.orders, partition, 0, value) for partition in range(2) for value in (b"{", future)]
    good = list(scene.till.sent)
    scene.till.send(bad)
    scene.till.sent[:] = good
    scene.send_part(shuffled=True)
    with scene.worker() as worker:
        scene.wait()
        repeats = repeat_forwarded(scene, 50)
        scene.send_part()
        scene.wait()
        scene.assert_equal()
        assert worker.count("driftline_feature_events", result="repeated") == repeats
        assert worker.count("driftline_dead_letters") == len(bad)
        before, first = stored_hashes(shop), generations(scene)
        with scene.client() as client:
            key = next(iter(before))
            client.hset(key, mapping=dict.fromkeys(client.hkeys(key), b"spoilt"))
        told = replay(scene)
        assert all(view in told for view in first)
        until(
            lambda: all(number > first[view] for view, number in generations(scene).items()),
            "every view has begun anew once more",
        )
        scene.wait()
        worker.wait_ready()
        assert stored_hashes(shop) == before
        scene.assert_equal()
        assert worker.count("driftline_dead_letters") == len(bad)
    letters = [
        msgspec.json.decode(record.value, type=records.DeadLetter).topic
        for record in read_topic(shop.settings.broker, topics.DEAD_LETTERS.name)
        if record.value is not None  # a replay's mark
    ]
    assert letters.count(shop.orders) == len(bad)
    for view in ("by_shop", "by_desk"):
        aside = read_topic(shop.settings.broker, topics.late(f"{shop.prefix}_{view}"))
        assert {record.value for record in aside} == {value for *_, value in late}


def repeat_forwarded(scene: Scene, count: int) -> int:
    """Forward some records once more, as a worker does that dies before it notes its progress."""
    name = topics.repartition(f"{scene.shop.prefix}_by_shop")
    found = [record for record in read_topic(scene.shop.settings.broker, name) if record.value][:count]
    producer = KafkaProducer(bootstrap_servers=scene.shop.settings.broker)
    for record in found:
        producer.send(name, record.value, record.key, list(record.headers), record.partition)
    producer.close()
    return len(found)


def replay(scene: Scene, *arguments: str) -> str:
    """Run ``driftline features replay``; return what it says."""
    command = [sys.executable, "-m", "services.operations.cli", "features", "replay", *arguments]
    environment = {**os.environ, **scene.shop.settings.environment()}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_changed_window_and_new_view_are_built_while_the_others_stay(scene: Scene) -> None:
    shop = scene.shop
    scene.send_part()
    with scene.worker() as worker:
        scene.wait()
        scene.assert_equal()
        first = generations(scene)
        worker.stop()
        definitions = shop.settings.feature_repo / "definitions.py"
        changed = definitions.read_text().replace(*LONGER_COUNT)
        definitions.write_text(changed + NEW_VIEW.replace("PREFIX", shop.prefix))
        shop = dataclasses.replace(shop, plan=repository.apply(shop.settings))
        scene.shop = shop
        scene.send_part()
        worker.start()
        scene.wait()
        worker.wait_ready()
        second = generations(scene)
        scene.assert_equal(windows={"amount_count": 45}, counting={"fresh": 20})
    renewed = {view for view in second if second[view] != first.get(view)}
    assert renewed == {f"{shop.prefix}_by_shop", f"{shop.prefix}_fresh"}
