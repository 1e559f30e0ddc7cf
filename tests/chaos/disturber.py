"""Carries out a plan of disturbances beside a running demo, on another thread."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import msgspec
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from services.demo import worlds
from services.demo.play import Play
from services.demo.system import System
from services.operations.local_servers.supervisor import Child, Supervisor
from services.runtime import kafka_consumers
from streams import records, topics
from streams.json_decoder import valid
from tests.chaos import comparison, garbage
from tests.chaos.comparison import Source
from tests.chaos.plan import Act

LATE_MS_MAX = 2 * topics.DAY_MS
"""Event time stops while the next act is later than this, so that all are done before the end."""
RETURN_SECONDS_MAX = 120.0
"""Maximum time until a killed process runs again, or a server takes a record."""
POLL_SECONDS = 0.05

MODELS = (worlds.FLIGHTS.model, worlds.LEARNER)
EDITS: dict[str, Callable[[str], str]] = {
    "cut off": lambda text: text[: text.index("label:") + 3],
    "no YAML": lambda _: "name: [",
    "empty": lambda _: "",
    "an unknown key": lambda text: text + "\nunknown: 1\n",
    "another owner": lambda text: text.replace("flight-operations", "night-operations"),
    "a comment": lambda text: text + "\n# changed\n",
}
Say = Callable[[str], None]


class RestartingSupervisor(Supervisor):
    """Starts a child again that was killed, as an orchestrator does."""

    restarts = 0

    def check(self) -> None:
        """Start the killed children again; raise `ChildDiedError` for any other end."""
        for child in list(self.children):
            if child.exit_code == -signal.SIGKILL:
                self.forget(child)
                RestartingSupervisor.restarts += 1
                log = child.launch.log.with_suffix(f".{RestartingSupervisor.restarts}.log")
                self.start(dataclasses.replace(child.launch, log=log))
        super().check()


class Disturber:
    """A context beside the stream of a demo. Each act waits until the demo has reached its event time."""

    def __init__(self, running: System, play: Play, acts: Sequence[Act], say: Say) -> None:
        """Take the system, the stream and the plan; nothing happens before the block is entered."""
        self._running = running
        self._play = play
        self._waiting = list(acts)
        self._say = say
        self._began_seconds = 0.0
        self._producer = KafkaProducer(
            **running.settings.kafka_options(),
            enable_idempotence=True,
            acks="all",
            max_block_ms=RETURN_SECONDS_MAX * 1000,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)
        self._garbage: dict[Source, str] = {}
        """The kind of each record that was written."""
        self._refused: set[Source] = set()
        """Those of them that must have a dead letter."""
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._play.producer = PacedProducer(self._play.producer, self)  # type: ignore[assignment]  # of the same form
        self._began_seconds = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End, with everything as it was before: nothing is frozen, no file is changed."""
        self._stopping.set()
        self._thread.join(RETURN_SECONDS_MAX)
        self._producer.close(timeout=5)
        if kind is None:
            if self._waiting:
                act = self._waiting[0]
                self.faults.append(f"{len(self._waiting)} acts were not done, from: {act.kind} {act.target}")
            self._settle_letters()

    def is_late(self, position_ms: int) -> bool:
        """Tell whether event time has to wait for the next act."""
        waiting = self._waiting
        return bool(waiting) and position_ms > waiting[0].at_ms + LATE_MS_MAX and self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._waiting and not self._stopping.is_set():
                self._await_time(self._waiting[0])
                if not self._stopping.is_set():
                    self._carry_out(self._waiting[0])
                    self._waiting.pop(0)
        except Exception as error:  # noqa: BLE001  # a fault of the run, whatever it is
            self.faults.append(f"{self._waiting[0].kind} {self._waiting[0].target}: {error!r}")

    def _await_time(self, act: Act) -> None:
        while self._play.producer.sent.position_ms < act.at_ms:
            if self._stopping.wait(POLL_SECONDS):
                return
        self._stopping.wait(act.delay_seconds)

    def _carry_out(self, act: Act) -> None:
        done = {
            "kill": self._kill,
            "freeze": self._freeze,
            "garbage": self._write_garbage,
            "edit": self._edit,
        }[act.kind](act)
        day = dt.datetime.fromtimestamp(self._play.producer.sent.position_ms / 1000, dt.UTC)
        self._say(f"{time.monotonic() - self._began_seconds:6.1f} s  {day:%Y-%m-%d}  {done}")

    def _child(self, name: str) -> Child:
        """Return a process that runs, after a kill the next one."""
        deadline = time.monotonic() + RETURN_SECONDS_MAX
        while time.monotonic() < deadline:
            for child in self._running.children:
                if child.name == name and child.exit_code is None:
                    return child
            self._stopping.wait(POLL_SECONDS)
        raise TimeoutError(f"{name} was not started again")

    def _kill(self, act: Act) -> str:
        self._child(act.target).signal(signal.SIGKILL)
        return f"killed {act.target}"

    def _freeze(self, act: Act) -> str:
        child = self._child(act.target)
        child.signal(signal.SIGSTOP)
        self._stopping.wait(act.seconds)
        child.signal(signal.SIGCONT)
        return f"froze {act.target} for {act.seconds:.1f} s"

    def _edit(self, act: Act) -> str:
        model = random.Random(act.choice).choice(MODELS)
        path = self._running.settings.models / model / "model.yaml"
        whole = path.read_text()
        path.write_text(EDITS[act.target](whole))
        self._stopping.wait(act.seconds)
        path.write_text(whole)
        return f"edited {model}/model.yaml for {act.seconds:.1f} s: {act.target}"

    def _write_garbage(self, act: Act) -> str:
        chance = random.Random(act.choice)
        found = garbage.made(chance, self._fields_of_a_record(act.target))
        partitions = sorted(self._producer.partitions_for(act.target))
        sending = [
            self._producer.send(
                act.target,
                key=garbage.KEY,
                value=each.value,
                headers=list(each.headers),
                partition=chance.choice(partitions),
            )
            for each in found
        ]
        for each, future in zip(found, sending, strict=True):
            sent = future.get(RETURN_SECONDS_MAX)
            place = (sent.topic, sent.partition, sent.offset)
            self._garbage[place] = each.kind
            if garbage.is_letter(each, act.target):
                self._refused.add(place)
        return f"wrote {len(found)} records of garbage into {act.target}"

    def _fields_of_a_record(self, topic: str) -> dict[str, Any]:
        """Return the fields of a record of a topic; wait while the broker is away."""
        deadline = time.monotonic() + RETURN_SECONDS_MAX
        while True:
            try:
                return self._first_object(topic)
            except KafkaError:
                if time.monotonic() > deadline:
                    raise

    def _first_object(self, topic: str) -> dict[str, Any]:
        with contextlib.closing(kafka_consumers.connect(self._running.settings, "chaos")) as consumer:
            partitions = [
                TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()
            ]
            consumer.assign(partitions)
            for message in kafka_consumers.read_to_end(consumer, partitions):
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    found = msgspec.json.decode(message.value or b"")
                    if isinstance(found, dict) and found:
                        return found
        return {"any": "thing"}

    def _settle_letters(self) -> None:
        """Check that the dead letters are those of garbage, and take them out of the demo's account."""
        self.faults += comparison.letter_faults(self._garbage, self._refused, dict(self._letters()))
        self._play.account.dead_letters = self._play.account.dead_letters_before = 0

    def _letters(self) -> Iterator[tuple[Source, str]]:
        decode = records.decoder_of(records.DeadLetter).decode
        messages = kafka_consumers.read_topic(self._running.settings, "chaos", topics.DEAD_LETTERS.name)
        for letter in valid(decode, [message.value for message in messages]):
            yield (letter.topic, letter.partition, letter.offset), letter.reason


class PacedProducer:
    """Sends as the demo does, and waits while the plan is late."""

    def __init__(self, inner: Any, disturber: Disturber) -> None:
        """Take the demo's own producer."""
        self._inner = inner
        self._disturber = disturber
        self.sent = inner.sent

    async def play(self, end_ms: int) -> None:
        """Wait for late acts, then send up to an event time."""
        while self._disturber.is_late(end_ms):  # noqa: ASYNC110  # another thread does the acts
            await asyncio.sleep(POLL_SECONDS)
        await self._inner.play(end_ms)
