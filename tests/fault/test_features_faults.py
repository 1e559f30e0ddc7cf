"""Whatever happens to workers and servers, in the end the online store is what one batch over all records gives."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import msgspec
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from services.embedded import ports, valkey
from services.embedded.supervisor import Child, Supervisor
from services.settings import Settings
from streams import records, topics
from tests import oracle
from tests.processes import Process
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

LATENESS_SECONDS = 60
EVENTS = 400
PART_MS = 7_200_000
WORKER = (sys.executable, "-m", "tests.workers.features")


@dataclasses.dataclass
class Server:
    """A server of one test's own, that can be killed and started again in its place."""

    supervisor: Supervisor
    launch: Callable[[], Child]
    child: Child

    def kill(self) -> None:
        self.supervisor.forget(self.child)
        self.child.signal(signal.SIGKILL)
        self.child.wait(5)

    def start(self) -> None:
        self.child = self.launch()
        self.supervisor.wait_ready(self.child, seconds=valkey.READY_SECONDS_MAX)


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
        wait_until_complete(self.shop, self.end_ms - 1 - LATENESS_SECONDS * 1000, seconds=60)

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.shop.settings.redis_url)

    def assert_equal(self, **windows: int) -> None:
        """Compare the store with the batch, and print the account."""
        rows = oracle.visible(stored_hashes(self.shop))
        expected = oracle.expected_rows(
            self.shop, self.till.sent, lateness_ms=LATENESS_SECONDS * 1000, windows=windows
        )
        late = oracle.late(self.shop, self.till.sent, LATENESS_SECONDS * 1000)
        told = "; ".join(f"{worker.log.stem}: {account(worker)}" for worker in self.workers if worker.alive)
        sent, fields = len(self.till.sent), sum(map(len, expected.values()))
        print(f"sent {sent}, of them late {late}; compared {len(expected)} rows, {fields} fields; {told}")
        assert rows == expected


def account(worker: Process) -> str:
    """Return what a worker has counted since its start."""
    counts = metrics(worker, "driftline_feature_events", "result")
    counts |= {"rows": sum(metrics(worker, "driftline_feature_rows", "view").values())}
    counts |= {"refused": sum(metrics(worker, "driftline_feature_refusals", "view").values())}
    counts |= {"dead letters": sum(metrics(worker, "driftline_dead_letters", "topic").values())}
    return ", ".join(f"{name} {count:.0f}" for name, count in counts.items())


def metrics(worker: Process, name: str, label: str) -> dict[str, float]:
    """Return a counter of a worker, summed by one label."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(f"{worker.url}/metrics").text):
        for sample in family.samples:
            if sample.name in (name, f"{name}_total"):
                found[sample.labels[label]] = found.get(sample.labels[label], 0) + sample.value
    return found


def generations(scene: Scene) -> dict[str, int]:
    """Return the generation of each stream view."""
    views = [view.name for view in scene.shop.plan.views if view.is_stream]
    with scene.client() as client:
        keys = [f"driftline:progress:{{driftline:watermarks:{view}}}" for view in views]
        return {view: int(client.hget(key, "generation") or 0) for view, key in zip(views, keys, strict=True)}


def wait_for(condition: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


@pytest.fixture
def scene(kafka: str, servers: Supervisor, unique_name: str, tmp_path: Path) -> Iterator[Scene]:
    """Small slices, so that a fault meets many of them, and the shortest session."""
    port = ports.free_port()

    def launch() -> Child:
        return valkey.start(servers, tmp_path / "valkey", port)

    store = Server(servers, launch, launch())
    servers.wait_ready(store.child, seconds=valkey.READY_SECONDS_MAX)
    settings = Settings().model_copy(
        update={
            "broker": kafka,
            "redis_url": f"redis://127.0.0.1:{port}/0",
            "home": tmp_path / "home",
            "slice_records_max": 25,
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
        repeated = metrics(worker, "driftline_feature_events", "result").get("repeated", 0)
        scene.assert_equal()
    assert repeated > 0  # so the kills came between a write and its progress


def test_zombie_that_wakes_up_in_the_middle_of_a_write_changes_nothing(scene: Scene) -> None:
    scene.send_part()
    with scene.worker("before write", count=4, number=signal.SIGSTOP) as zombie, scene.worker() as heir:
        scene.wait()  # so the other one has taken over
        scene.send_part()
        scene.wait()
        before = stored_hashes(scene.shop)
        zombie.resume()
        wait_for(lambda: sum(metrics(zombie, "driftline_feature_refusals", "view").values()) > 0)
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
        wait_for(lambda: all(generations(scene).values()))
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
