"""Faults of scoring, broker and store: each request still gets its prediction, in order, from its key's arm.

All tests share one installation, one model and one stream of requests: the ledger continues from one fault to
the next, and each test checks it. A key's arm follows from the shares alone, so it is checked in every test.
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

WORKER = (sys.executable, "-c", "from tests.workers import scoring; scoring.main()")
PART = 8_000
"""Requests sent together; with small slices these are ten slices in each partition."""
LIMITS = "limits: {slice_records_max: 200}\n"
POISON: list[Record] = [
    (b"k", b"{", []),
    (b"k", b'{"request_id":"a field is missing","user_id":"user-1"}', []),
]


@dataclasses.dataclass
class Scene:
    """A model with two arms, its requests so far, and its own online store."""

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
    """Number of requests whose arm was checked."""
    workers: int = 0

    def worker(
        self, point: str = "", count: int = 1, number: int = signal.SIGKILL, *, failing_user: str = ""
    ) -> Process:
        """Return a worker, with a fault at a point or for a user if one is given; its block starts it."""
        self.workers += 1
        return Process(
            "scoring",
            self.settings.model_copy(update={"scoring_port": ports.free_port()}),
            log=self.folder / f"scoring-{self.workers}.log",
            command=WORKER,
            environment={
                "FAULT_POINT": point,
                "FAULT_COUNT": str(count),
                "FAULT_SIGNAL": str(int(number)),
                "FAULT_USER": failing_user,
            },
        )

    def send(self, events: int = PART) -> None:
        """Send requests, and some invalid records."""
        installation.fill(self.settings, self.topic, events, first=self.sent)
        installation.send(self.settings, self.topic, {0: POISON})
        self.sent += events
        self.bad += len(POISON)

    def announce(self, arms: list[records.Arm]) -> None:
        """Publish other arms."""
        change = records.ModelChanged(model=self.name, arms=arms, changed_at_ms=0, reason="by hand")
        installation.send(self.settings, MODELS.name, {0: [(self.name.encode(), records.encode(change), [])]})
        self.arms = arms

    def promote(self) -> int:
        """Give the champion a new version without a change of the shares."""
        version = installation.register(self.settings, installation.train(seed=len(self.versions)), self.name)
        self.versions.append(version)
        promoted = [
            msgspec.structs.replace(arm, version=version) if arm.name == CHAMPION else arm
            for arm in self.arms
        ]
        self.announce(promoted)
        return version

    def settle(self) -> None:
        """Wait until all records sent are accounted for."""
        until(lambda: self.ledger.read() >= self.sent + self.bad, "all is accounted for")

    def check_ledger(self, *before: list[records.Arm]) -> None:
        """Wait for all records, check the ledger and print it; arms of ``before`` may have predicted, too."""
        self.settle()
        self.ledger.check(self.sent, self.bad)
        states = [ArmRouter(self.name, arms) for arms in (self.arms, *before)]
        self.ledger.check_arms(range(self.checked, self.sent), states)
        print(
            f"ledger: {self.sent} valid and {self.bad} invalid requests; "
            f"{len(self.ledger.predictions)} predictions, {len(self.ledger.letters)} dead letters, "
            f"{self.ledger.repeats} repeats dropped; "
            f"{self.sent - self.checked} arms checked"
        )
        self.checked = self.sent


class Load:
    """Sends requests while its block runs."""

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
            self._scene.send(400)


@pytest.fixture(scope="module")
def scene(
    kafka: str, mlflow: str, servers: Supervisor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Features in a store that can be stopped, a champion, and a challenger with a tenth of the keys."""
    folder, port = tmp_path_factory.mktemp("scoring-faults"), ports.free_port()
    store = Server(
        servers,
        lambda: valkey.start(servers, folder / "valkey", port),
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
            "session_timeout_seconds": 3.0,
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


def test_killed_at_each_point_of_a_slice_and_of_a_load_it_predicts_for_each_request_in_order(
    scene: Scene,
) -> None:
    for point in ("mid batch", "written"):
        scene.send()
        with scene.worker(point, count=6) as worker:
            worker.wait_dead()
    scene.send()
    with scene.worker("loading", count=3) as worker:  # the first two loads are those of the start
        until(lambda: scene.ledger.read() > scene.sent - PART, "some of the last requests have predictions")
        version = scene.promote()
        worker.wait_dead()
    with scene.worker():
        scene.settle()
        scene.send()
        scene.check_ledger()
    assert scene.ledger.repeats > 0  # the kills came between a write and its commit
    last = (scene.ledger.predictions[f"request-{scene.sent - 1 - back}"] for back in range(PART))
    assert {each.version for each in last} == {version, scene.versions[1]}


def test_a_request_on_which_the_code_fails_is_a_letter_and_every_other_request_is_predicted(
    scene: Scene,
) -> None:
    """The requests of all partitions are scored together; none of the others becomes a letter."""
    request = '{"request_id":"poison-%d","event_time":"2026-01-02T00:00:00Z","user_id":"poison"}'
    with scene.worker(failing_user="poison") as worker:
        scene.send()
        for number in range(PARTITIONS):
            value = (request % number).encode()
            installation.send(scene.settings, scene.topic, {number: [(b"k", value, [])]})
        scene.bad += PARTITIONS
        scene.send()
        scene.check_ledger()
        assert worker.count("driftline_dead_letters", kind="defect") == PARTITIONS
    defects = [letter for letter in scene.ledger.letters.values() if letter.kind == "defect"]
    assert sorted(letter.partition for letter in defects) == list(range(PARTITIONS))
    assert all(letter.reason.startswith("defect: KeyError: 'poison' at ") for letter in defects)


def test_a_zombie_that_resumes_before_a_write_only_repeats(scene: Scene) -> None:
    scene.send()
    with scene.worker("before write", count=6, number=signal.SIGSTOP) as zombie:
        until(zombie.is_suspended, "the worker has stopped itself")
        with scene.worker() as heir:
            scene.settle()  # the other worker has taken over after the session timeout
            repeats, count = scene.ledger.repeats, len(scene.ledger.predictions)
            zombie.resume()

            def has_repeated() -> bool:
                scene.ledger.read()
                return scene.ledger.repeats > repeats

            until(has_repeated, "the zombie has repeated predictions")
            assert len(scene.ledger.predictions) == count
            scene.send()
            scene.check_ledger()
            heir.check()
            zombie.check()


def test_a_store_that_is_silent_or_killed_stops_the_commits_and_nothing_is_lost(scene: Scene) -> None:
    """Silent or killed: a slice waits a bounded time, is retried again and again, and succeeds."""
    with scene.worker() as worker:
        worker.wait_ready()
        scene.send()
        for leave, come_back in (
            (suspend, resume),
            (lambda store: store.kill(), lambda store: store.start()),
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
                scene.send()
                retried = retried_after(worker)
                until(retried, "slices are retried: the wait for the store is bounded")
                scene.ledger.read()
                assert scene.ledger.read_commits() == committed
            finally:
                come_back(scene.store)
            scene.settle()
        worker.check()
        scene.check_ledger()


def retried_after(worker: Process) -> Callable[[], bool]:
    """Return a condition: since this call more slices were retried than there are partitions."""
    before = worker.output().count("slice.retried")
    return lambda: worker.output().count("slice.retried") > before + PARTITIONS


def suspend(store: Server) -> None:
    store.signal(signal.SIGSTOP)


def resume(store: Server) -> None:
    store.signal(signal.SIGCONT)


def save(scene: Scene) -> None:
    """Make the store write the file that it restarts from."""
    with redis.Redis.from_url(scene.settings.redis_url) as client:
        client.save()


def test_a_broker_that_is_killed_under_load_and_restarted_loses_nothing(scene: Scene, broker: Server) -> None:
    with scene.worker() as worker:
        worker.wait_ready()
        scene.send(4 * PART)
        until(
            lambda: scene.ledger.read() > scene.sent + scene.bad - 3 * PART,
            "a quarter of the requests has predictions",
        )
        broker.kill()
        time.sleep(2)
        broker.start()
        began = time.monotonic()
        scene.send()
        scene.settle()
        print(f"caught up {time.monotonic() - began:.1f} s after the broker was back")
        scene.check_ledger()
        worker.check()


def test_many_joins_and_leaves_with_a_swap_and_a_raised_share_keep_each_key_in_its_arm(
    scene: Scene,
) -> None:
    """Ten joins and leaves under load, while the champion gets a new version and the challenger 60 %."""
    before, began = scene.arms, time.monotonic()
    with scene.worker() as steady, scene.worker() as guest:
        steady.wait_ready()
        with Load(scene):
            for number in range(5):
                # It need not be ready: the next change comes while the group still assigns the partitions.
                until(lambda: "model.served" in guest.output(), "the guest serves its model")
                time.sleep(1)
                if number == 1:
                    version = scene.promote()
                if number == 3:
                    scene.announce(with_share(scene.arms, "challenger", scene.versions[1], 6000))
                guest.kill() if number % 2 else guest.stop()
                guest.start()
        print(f"10 joins and leaves in {time.monotonic() - began:.0f} s")
        scene.check_ledger(before)
        guest.wait_ready()
        scene.send()
        scene.check_ledger()
        steady.check()
    last = [scene.ledger.predictions[f"request-{scene.sent - 1 - back}"] for back in range(PART)]
    assert {(each.arm, each.version) for each in last} == {
        (CHAMPION, version),
        ("challenger", scene.versions[1]),
    }
    raised = sum(each.arm == "challenger" for each in last) / PART
    assert 0.55 < raised < 0.65
