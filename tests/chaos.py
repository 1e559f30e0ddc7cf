"""``make chaos``: the demo under kills, freezes, restarts, garbage and edits, held against a calm run.

``python -m tests.chaos --seeds 1 2 3 --until 2013-03-01`` plays the flights once in calm and once per seed.
In a run with a seed, at random moments, a process of Driftline is killed or frozen, Kafka or Valkey is killed
and started again, garbage is written into a topic, or a model.yaml is broken for some seconds. At the end,
account, months, retrainings and alarms must be those of the calm run. Differences are printed, and the exit
code is 1.

Not written: records that are valid and harmful by meaning, such as a change of the arms or a snapshot under a
model's key: those are an operator's.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from rich.console import Console

from services.demo import options, run, system
from services.demo.play import Play
from services.demo.run import Demo
from services.operations.local_servers import cluster
from services.operations.local_servers.supervisor import Child, Supervisor
from services.runtime.settings import ROOT, Settings
from streams import codec, topics

PAUSE_SECONDS = (2.0, 6.0)
FROZEN_SECONDS = (1.0, 8.0)
BROKEN_SECONDS = (2.0, 6.0)
SETTLED_SECONDS = 8.0
"""No disturbance comes this soon after the start of all processes."""
SERVERS = ("kafka", "valkey")
MODELS = (run.MODEL, run.LEARNER)
GARBAGE: Mapping[str, bytes] = {
    "not JSON": b"\xff\xfe garbage",
    "empty": b"",
    "null": b"null",
    "nested": b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "of another form": b'{"id": 7, "version": "one"}',
    "large": b'{"x": "' + b"a" * 500_000 + b'"}',
}
BAD_HEARTBEATS = (b"", b"abc", b"-1", b"9" * 5000, b"1700000000000000")
COMPARED = (
    "requests_sent",
    "predicted",
    "collected",
    "labels_joined",
    "labels_orphaned",
    "predictions_unlabelled",
    "months",
    "alarms",
)


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
    """Disturbs a running system at random moments, from a thread of its own."""

    def __init__(self, seed: int, settings: Settings, children: Callable[[], list[Child]]) -> None:
        """Take the system; nothing happens before `start`."""
        self._chance = random.Random(seed)
        self._settings = settings
        self._children = children
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)
        self.done: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, with everything as it was before: nothing is frozen, no file is broken."""
        self._stopping.set()
        self._thread.join(60)

    def _run(self) -> None:
        acts = {
            self._kill: 8,
            self._freeze: 5,
            self._restart_server: 2,
            self._write_garbage: 8,
            self._break_declaration: 2,
        }
        self._stopping.wait(SETTLED_SECONDS)
        while not self._stopping.wait(self._chance.uniform(*PAUSE_SECONDS)):
            (act,) = self._chance.choices(list(acts), list(acts.values()))
            self.done.append(act())

    def _process(self) -> Child:
        return self._chance.choice([child for child in self._children() if child.name in system.PROCESSES])

    def _kill(self) -> str:
        child = self._process()
        child.signal(signal.SIGKILL)
        return f"killed {child.name}"

    def _freeze(self) -> str:
        child, seconds = self._process(), self._chance.uniform(*FROZEN_SECONDS)
        child.signal(signal.SIGSTOP)
        self._stopping.wait(seconds)
        child.signal(signal.SIGCONT)
        return f"froze {child.name} for {seconds:.1f} s"

    def _restart_server(self) -> str:
        name = self._chance.choice(SERVERS)
        next(child for child in self._children() if child.name == name).signal(signal.SIGKILL)
        return f"killed {name}"

    def _write_garbage(self) -> str:
        topic, kind = self._chance.choice(_topics()), self._chance.choice([*GARBAGE, "heartbeat"])
        headers = []
        value: bytes | None = GARBAGE.get(kind)
        if kind == "heartbeat":
            headers = [(codec.HEARTBEAT_HEADER, self._chance.choice(BAD_HEARTBEATS))]
        producer = KafkaProducer(**self._settings.kafka_options(), max_block_ms=20_000)
        try:
            producer.send(topic, key=b"chaos", value=value, headers=headers).get(30)
        except Exception as error:  # noqa: BLE001  # the broker may be the one that was killed
            return f"could not write into {topic}: {error!r}"
        finally:
            producer.close(timeout=5)
        return f"wrote {kind} into {topic}"

    def _break_declaration(self) -> str:
        path = self._settings.models / self._chance.choice(MODELS) / "model.yaml"
        whole = path.read_text()
        path.write_text(self._chance.choice([whole[: len(whole) // 2], "name: [", whole + "\nunknown: 1\n"]))
        self._stopping.wait(self._chance.uniform(*BROKEN_SECONDS))
        path.write_text(whole)
        return f"broke {path.parent.name}/model.yaml for some seconds"


def _topics() -> list[str]:
    """Return all topics that a process reads, but for those whose records the demo's own account counts."""
    internal = [topics.MODELS, topics.RETRAINING, topics.LEARNED, topics.DRIFT_STATE, topics.FEATURE_LOG]
    applications = ["flights.scheduled", "flights.departed", "flights.arrived", "weather.observed"]
    return [*applications, *(each.name for each in internal)]


class DisturbedDemo(Demo):
    """The demo with a disturber beside it."""

    seed: int
    disturber: Disturber | None = None

    def _stream(self, running: system.System) -> None:
        self.disturber = Disturber(self.seed, running.settings, lambda: running.children)
        self.disturber.start()
        try:
            super()._stream(running)
        finally:
            self.disturber.stop()

    def _faults(self, play: Play) -> list[str]:
        """Return the faults of the account; the dead letters are the garbage, no valid request is one."""
        play.account.dead_letters = play.account.dead_letters_before = 0
        return super()._faults(play)


def play(seed: int, until: str, summary: Path, home: Path) -> None:
    """Play in this process, disturbed unless the seed is 0."""
    console = Console(width=120)
    parsed = options.parse(as_fast_as_possible=True, until=until, summary=summary, home=home)
    if not seed:
        Demo(parsed, console).run()
        return
    supervisors: Any = (system, cluster)
    for module in supervisors:
        module.Supervisor = RestartingSupervisor
    embedded: Any = cluster.Embedded
    supervisors[0].Embedded = lambda *args, **options: embedded(*args, appendonly=True, **options)
    demo = DisturbedDemo(parsed, console)
    demo.seed = seed
    demo.run()
    assert demo.disturber is not None, "the demo has not begun"
    print(f"chaos {seed}: {RestartingSupervisor.restarts} restarts", *demo.disturber.done, sep="\n  ")


def differences(calm: Mapping[str, Any], disturbed: Mapping[str, Any]) -> list[str]:
    """Return what differs between two summaries."""
    found = [
        f"{name}: {disturbed[name]!r} instead of {calm[name]!r}"
        for name in COMPARED
        if _rounded(disturbed[name]) != _rounded(calm[name])
    ]
    retrainings = [[_outcome(each) for each in summary["retrainings"]] for summary in (calm, disturbed)]
    if retrainings[0] != retrainings[1]:
        found.append(f"retrainings: {retrainings[1]!r} instead of {retrainings[0]!r}")
    found += [
        f"minutes {name}: {disturbed['minutes'][name]} instead of {calm['minutes'][name]}"
        for name in ("predicted", "collected")
        if disturbed["minutes"][name] != calm["minutes"][name]
    ]
    if not disturbed["complete"]:
        found.append("the run was not complete")
    return found + [f"fault: {fault}" for fault in disturbed["faults"]]


def _outcome(retraining: Mapping[str, Any]) -> list[Any]:
    return [retraining[name] for name in ("time", "trigger", "version", "result", "rows")]


def _rounded(value: Any) -> Any:
    """Return a value with floats of 9 digits: few rows are summed in another order than many."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return {key: _rounded(each) for key, each in value.items()} if isinstance(value, dict) else value


def _run_alone(seed: int, until: str, folder: Path) -> dict[str, Any]:
    """Play in a process of its own, on a copy of the models; return its summary."""
    name = f"seed-{seed}" if seed else "calm"
    summary, models = folder / f"{name}.json", folder / f"{name}-models"
    shutil.copytree(ROOT / "models", models)
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--play",
        str(seed),
        "--until",
        until,
        "--to",
        str(summary),
    ]
    environment = os.environ | {"DRIFTLINE_MODELS": str(models)}
    began = time.monotonic()
    with (folder / f"{name}.log").open("wb") as log:
        subprocess.run(command, check=False, cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=3600)
    if not summary.exists():
        sys.exit(f"chaos: {name} wrote no summary, see {folder / name}.log")
    found: dict[str, Any] = json.loads(summary.read_text())
    print(f"chaos: {name} took {time.monotonic() - began:.0f} s", flush=True)
    return found


def main() -> None:
    """Compare each seed with the calm run."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--until", default="2013-03-01", help="send no requests from this date on")
    parser.add_argument("--play", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.play is not None:
        play(given.play, given.until, given.to, given.to.with_suffix(".home"))
        return
    folder = Path(tempfile.mkdtemp(prefix="driftline-chaos-"))
    print(f"chaos: logs and summaries are in {folder}")
    calm = _run_alone(0, given.until, folder)
    failed = False
    for seed in given.seeds:
        found = differences(calm, _run_alone(seed, given.until, folder))
        failed |= bool(found)
        print(f"chaos: seed {seed}: {'as in calm' if not found else ''}", *found, sep="\n  ", flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
