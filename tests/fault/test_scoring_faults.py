"""Whatever happens to scoring, broker and store: each request is answered, in order, by its key's arm.

One installation, one model and one stream of requests for all tests: the account goes on from one fault to
the next, and each test closes it. A key's arm follows from the shares alone, so it is checked throughout.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL, PARTITIONS, REQUESTS
from services.model_registry.traffic_split import CHAMPION, with_share
from services.operations.local_servers import ports, valkey
from services.operations.local_servers.supervisor import Supervisor
from services.runtime import declaration_file, topic_creation
from services.runtime.declaration import FILE
from services.runtime.settings import Settings
from services.scoring.arm_router import ArmRouter
from streams import records
from streams.producer import Record
from streams.topics import MODELS
from tests.ledger import Ledger
from tests.processes import Process
from tests.servers import Server
from tests.waiting import until

WORKER = (sys.executable, "-m", "tests.workers.scoring")
PART = 8_000
"""Requests at once: with small slices, ten in each partition."""
LIMITS = "limits: {slice_records_max: 200}\n"
STORE_GONE_SECONDS = 30
POISON: list[Record] = [
    (b"k", b"{", []),
    (b"k", b'{"request_id":"a field is missing","user_id":"user-1"}', []),
]


@dataclasses.dataclass
class Scene:
    """A model with two arms, its requests so far, and a store of its own."""

    settings: Settings
    name: str
    topic: str
    store: Server
    ledger: Ledger
    folder: Path
    versions: list[int]
    arms: list[records.Arm]
    sent: int = 0
    bad: int = 0
    checked: int = 0
    """Requests whose arm was compared already."""
    workers: int = 0

    def worker(self, point: str = "", count: int = 1, number: int = signal.SIGKILL) -> Process:
        """Make a worker, with a fault at a point if one is given; its block starts it."""
        self.workers += 1
        return Process(
            "scoring",
            self.settings.model_copy(update={"scoring_port": ports.free_port()}),
            log=self.folder / f"scoring-{self.workers}.log",
            command=WORKER,
            environment={"FAULT_POINT": point, "FAULT_COUNT": str(count), "FAULT_SIGNAL": str(int(number))},
        )

    def ask(self, events: int = PART) -> None:
        """Send requests, and some that are none."""
        installation.fill(self.settings, self.topic, events, first=self.sent)
        installation.send(self.settings, self.topic, {0: POISON})
        self.sent += events
        self.bad += len(POISON)

    def announce(self, arms: list[records.Arm]) -> None:
        """Have other arms score from now on."""
        change = records.ModelChanged(model=self.name, arms=arms, changed_at_ms=0, reason="by hand")
        installation.send(self.settings, MODELS.name, {0: [(self.name.encode(), records.encode(change), [])]})
        self.arms = arms

    def promote(self) -> int:
        """Give the champion a new version and leave the shares as they are."""
        version = installation.register(self.settings, installation.train(seed=len(self.versions)), self.name)
        self.versions.append(version)
        promoted = [
            msgspec.structs.replace(arm, version=version) if arm.name == CHAMPION else arm
            for arm in self.arms
        ]
        self.announce(promoted)
        return version

    def settle(self) -> None:
        """Wait until all that was sent is accounted for."""
        until(lambda: self.ledger.read() >= self.sent + self.bad, "all is accounted for")

    def close_account(self, *before: list[records.Arm]) -> None:
        """Wait for all, compare everything, print the account; arms of before may have answered, too."""
        self.settle()
        self.ledger.check(self.sent, self.bad)
        states = [ArmRouter(self.name, arms) for arms in (self.arms, *before)]
        self.ledger.check_arms(range(self.checked, self.sent), states)
        print(
            f"account: {self.sent} good and {self.bad} bad requests; {len(self.ledger.answers)} answered, "
            f"{len(self.ledger.letters)} dead letters, {self.ledger.repeats} repeats dropped; "
            f"{self.sent - self.checked} arms compared"
        )
        self.checked = self.sent


class Load:
    """Requests that keep coming while the block runs."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.3):
            self._scene.ask(400)


@pytest.fixture(scope="module")
def scene(
    kafka: str, mlflow: str, servers: Supervisor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Features in a store that may be stopped, a champion and a challenger with a tenth of the keys."""
    folder, port = tmp_path_factory.mktemp("scoring-faults"), ports.free_port()
    store = Server(
        servers,
        lambda: valkey.start(servers, folder / "valkey", port),
        ready_seconds_max=valkey.READY_SECONDS_MAX,
    )
    name = f"faults_{os.getpid()}"
    topic = f"{name}.requests"
    settings = Settings().model_copy(
        update={
            "broker": kafka,
            "redis_url": f"redis://127.0.0.1:{port}/0",
            "mlflow_uri": mlflow,
            "home": folder / "home",
            "models": folder / "models",
            "feature_repo": JOB / "feature_repo",
            "session_timeout_seconds": 6.0,
        }
    )
    declare(settings, name, topic)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRIFTLINE_HOME", str(settings.home))
        settings.home.mkdir()
        topic_creation.ensure_topics(settings, declaration_file.load_all(settings.models))
        installation.write_features(settings)
        versions = [installation.register(settings, installation.train(seed=n), name) for n in (10, 11)]
        ledger = Ledger(kafka, name, topic, PARTITIONS)
        scene = Scene(settings, name, topic, store, ledger, folder, versions, [])
        champion = records.Arm(name=CHAMPION, version=versions[0], weight=10_000)
        scene.announce(with_share([champion], "challenger", versions[1], 1000))
        yield scene
        ledger.close()
        store.kill()


def declare(settings: Settings, name: str, topic: str) -> None:
    folder = settings.models / name
    folder.mkdir(parents=True)
    text = (JOB / "models" / MODEL / FILE).read_text(encoding="utf-8")
    text = text.replace(f"name: {MODEL}", f"name: {name}").replace(REQUESTS, topic)
    text = text.replace("  id: request_id\n", "  id: request_id\n  key: user_id\n", 1)
    (folder / FILE).write_text(text + LIMITS, encoding="utf-8")


def test_killed_at_each_point_of_a_slice_and_of_a_load_it_answers_each_request_in_order(
    scene: Scene,
) -> None:
    for point in ("mid batch", "written"):
        scene.ask()
        with scene.worker(point, count=6) as worker:
            worker.wait_dead()
    scene.ask()
    with scene.worker("loading", count=3) as worker:  # the first two are those that it finds
        until(lambda: scene.ledger.read() > scene.sent - PART, "some of the last part is answered")
        version = scene.promote()
        worker.wait_dead()
    with scene.worker():
        scene.settle()
        scene.ask()
        scene.close_account()
    assert scene.ledger.repeats > 0  # so the kills came between a write and its commit
    last = (scene.ledger.answers[f"request-{scene.sent - 1 - back}"] for back in range(PART))
    assert {answer.version for answer in last} == {version, scene.versions[1]}


def test_zombie_that_wakes_up_before_a_write_only_repeats(scene: Scene) -> None:
    scene.ask()
    with scene.worker("before write", count=6, number=signal.SIGSTOP) as zombie:
        until(zombie.is_suspended, "it has stopped itself")
        with scene.worker() as heir:
            scene.settle()  # so the other one has taken over, past the session timeout
            repeats, answers = scene.ledger.repeats, len(scene.ledger.answers)
            zombie.resume()

            def has_repeated() -> bool:
                scene.ledger.read()
                return scene.ledger.repeats > repeats

            until(has_repeated, "the zombie has repeated itself")
            assert len(scene.ledger.answers) == answers
            scene.ask()
            scene.close_account()
            heir.check()
            zombie.check()


def test_store_that_is_silent_or_killed_stops_the_commits_and_nothing_is_lost(scene: Scene) -> None:
    """Silent for half a minute, and killed: a slice waits a bounded time, is tried again, and caught up."""
    with scene.worker() as worker:
        worker.wait_ready()
        scene.ask()
        for gone_seconds, leave, come_back in (
            (STORE_GONE_SECONDS, suspend, resume),
            (3, lambda store: store.kill(), lambda store: store.start()),
        ):
            scene.settle()
            save(scene)
            until(
                lambda: sum(scene.ledger.read_commits().values()) == scene.sent + scene.bad,
                "all is committed",
            )
            committed = scene.ledger.read_commits()
            leave(scene.store)
            try:
                scene.ask()
                retried = tries_after(worker)
                time.sleep(gone_seconds)
                until(retried, "a slice is tried again: the wait for the store is bounded")
                scene.ledger.read()
                assert scene.ledger.read_commits() == committed
            finally:
                come_back(scene.store)
            scene.settle()
        worker.check()
        scene.close_account()


def tries_after(worker: Process) -> Callable[[], bool]:
    """Return what tells whether a slice was tried again since now."""
    before = worker.output().count("slice.retried")
    return lambda: worker.output().count("slice.retried") > before


def suspend(store: Server) -> None:
    store.signal(signal.SIGSTOP)


def resume(store: Server) -> None:
    store.signal(signal.SIGCONT)


def save(scene: Scene) -> None:
    """Have the store write its file, with which it will come back."""
    with redis.Redis.from_url(scene.settings.redis_url) as client:
        client.save()


def test_broker_that_is_killed_under_load_and_comes_back_loses_nothing(scene: Scene, broker: Server) -> None:
    with scene.worker() as worker:
        worker.wait_ready()
        scene.ask(4 * PART)
        until(lambda: scene.ledger.read() > scene.sent + scene.bad - 3 * PART, "a quarter is answered")
        broker.kill()
        time.sleep(2)
        broker.start()
        began = time.monotonic()
        scene.ask()
        scene.settle()
        print(f"caught up {time.monotonic() - began:.1f} s after the broker was back")
        scene.close_account()
        worker.check()


def test_storm_of_joins_and_leaves_with_a_swap_and_a_raised_share_keeps_each_key_in_its_arm(
    scene: Scene,
) -> None:
    """Ten joins and leaves under load; meanwhile the champion gets a new version and the challenger 60 %."""
    before, began = scene.arms, time.monotonic()
    with scene.worker() as steady, scene.worker() as guest:
        steady.wait_ready()
        with Load(scene):
            for number in range(5):
                # Not until it is ready: the next one comes while the group still divides the partitions.
                until(lambda: "model.served" in guest.output(), "the guest has its model")
                time.sleep(1)
                if number == 1:
                    version = scene.promote()
                if number == 3:
                    scene.announce(with_share(scene.arms, "challenger", scene.versions[1], 6000))
                guest.kill() if number % 2 else guest.stop()
                guest.start()
        print(f"10 joins and leaves in {time.monotonic() - began:.0f} s")
        scene.close_account(before)
        guest.wait_ready()
        scene.ask()
        scene.close_account()
        steady.check()
    last = [scene.ledger.answers[f"request-{scene.sent - 1 - back}"] for back in range(PART)]
    assert {(answer.arm, answer.version) for answer in last} == {
        (CHAMPION, version),
        ("challenger", scene.versions[1]),
    }
    raised = sum(answer.arm == "challenger" for answer in last) / PART
    assert 0.55 < raised < 0.65
