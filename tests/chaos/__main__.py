"""``make chaos``: the demo under kills, freezes, garbage and edits, held against a calm run.

``python -m tests.chaos --seeds 1 2 3 --until 2013-03-01`` plays the flights once in calm and once per seed.
In a run with a seed, each process of Driftline, Kafka, Valkey and MLflow is killed with SIGKILL and started
again; each process, Kafka and Valkey is frozen for some seconds; garbage is written into every topic; and a
model.yaml is edited for some seconds: all at random event times. At the end, account, months, retrainings and
alarms must be those of the calm run. Differences are printed, and the exit code is 1.

Not written: records that are valid and harmful by meaning, such as a change of the arms or a snapshot under a
model's key: those are an operator's.
"""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from services.demo import months, options, system, worlds
from services.demo.play import Play
from services.demo.run import Demo
from services.operations.local_servers import cluster
from services.operations.local_servers.supervisor import Child, Launch, Supervisor, stoppable
from services.runtime import kafka_consumers
from services.runtime.settings import ROOT
from streams import topics
from tests.chaos import comparison
from tests.chaos.disturber import EDITS, Disturber, RestartingSupervisor
from tests.chaos.plan import Kind, Span, plan

SERVERS = ("kafka", "valkey")
COMPLETE: dict[Kind, Sequence[str]] = {
    "kill": (*worlds.FLIGHTS.processes, *SERVERS, "mlflow"),
    "freeze": (*worlds.FLIGHTS.processes, *SERVERS),
    "edit": tuple(EDITS),
}
SHORT: dict[Kind, Sequence[str]] = {
    "kill": ("scoring", "drift", "retraining", *SERVERS, "mlflow"),
    "freeze": ("features",),
    "edit": ("cut off", "another owner"),
}
EXTRA_ACTS = 10
"""Kills and freezes beyond one for each process."""
RUN_SECONDS_MAX = 3600.0
STOP_SECONDS = 15.0
"""The demo needs up to 10 s after a signal."""
DAYS_WITHOUT_ACTS = 3
"""Days of event time at the start in which nothing is disturbed."""


def targets(names: Sequence[str], *, is_short: bool) -> dict[Kind, Sequence[str]]:
    """Return what a plan does to whom, given all topics; a short one does each kind to few."""
    return {**(SHORT if is_short else COMPLETE), "garbage": sorted(names)}


def span(until_ms: int) -> Span:
    """Return when disturbances may be."""
    start_ms = months.YEAR_START_MS + DAYS_WITHOUT_ACTS * topics.DAY_MS
    return Span(start_ms, months.SCORING_START_MS, until_ms)


class Player:
    """Plays in this process, in calm or disturbed, and writes the summary and what was done."""

    def __init__(self, seed: int, until: str, summary: Path, *, is_short: bool) -> None:
        """Take seed 0 for a calm run."""
        self._seed = seed
        self._is_short = is_short
        self._summary = summary
        self._acts = summary.with_suffix(".acts").open("w", buffering=1)
        home = summary.with_suffix(".home")
        self._options = options.parse(as_fast_as_possible=True, until=until, summary=summary, home=home)

    def play(self) -> int:
        """Play to the end; return the exit code of the demo."""
        console = Console(width=120)
        if not self._seed:
            return Demo(self._options, console).run()
        supervisors: Any = (system, cluster)
        for module in supervisors:
            module.Supervisor = RestartingSupervisor
        embedded: Any = cluster.Embedded
        supervisors[0].Embedded = lambda *args, **options: embedded(*args, appendonly=True, **options)
        return Demo(self._options, console, self._disturbed).run()

    @contextlib.contextmanager
    def _disturbed(self, running: system.System, play: Play) -> Iterator[None]:
        with contextlib.closing(kafka_consumers.connect(running.settings, "chaos")) as consumer:
            names = [name for name in consumer.topics() if not name.startswith("__")]
        wanted = targets(names, is_short=self._is_short)
        acts = plan(
            self._seed, wanted, span(self._options.until_ms), extra=0 if self._is_short else EXTRA_ACTS
        )
        disturber = Disturber(running, play, acts, self._say)
        with disturber:
            yield
        self._summary.with_suffix(".faults").write_text("\n".join(disturber.faults))

    def _say(self, line: str) -> None:
        print(line, file=self._acts)


def play_alone(seed: int, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Play in a new process, on a copy of the models; print what was done; return the summary."""
    name = f"seed-{seed}" if seed else "calm"
    summary, models = folder / f"{name}.json", folder / f"{name}-models"
    shutil.copytree(ROOT / "models", models)
    command = [sys.executable, "-m", "tests.chaos", "--play", str(seed), "--until", given.until]
    command += ["--to", str(summary), *(["--short"] if given.short else [])]
    launch = Launch(name, command, folder / f"{name}.log", {"DRIFTLINE_MODELS": str(models)})
    began = time.monotonic()
    with Supervisor(STOP_SECONDS) as supervisor:
        _follow(supervisor.start(launch), summary.with_suffix(".acts"))
    if not summary.exists():
        sys.exit(f"chaos: {name} wrote no summary, see {launch.log}")
    found: dict[str, Any] = json.loads(summary.read_text())
    faults = summary.with_suffix(".faults")
    found["faults"] += faults.read_text().splitlines() if faults.exists() else []
    print(f"chaos: {name} took {time.monotonic() - began:.0f} s: {comparison.described(found)}", flush=True)
    return found


def _follow(child: Child, acts: Path) -> None:
    """Print the acts until the run has ended."""
    shown, deadline = 0, time.monotonic() + RUN_SECONDS_MAX
    running = True
    while running and time.monotonic() < deadline:
        running = child.wait(0.2) is None
        lines = acts.read_text().splitlines() if acts.exists() else []
        for line in lines[shown:]:
            print(f"  {line}", flush=True)
        shown = len(lines)


def verdict(seed: int, found: Sequence[str]) -> str:
    """Return what a comparison has found, as text."""
    if not found:
        return f"chaos: seed {seed}: account, months, retrainings and alarms equal those of the calm run"
    return "\n  ".join([f"chaos: seed {seed}: {len(found)} difference(s) from the calm run", *found])


def compare(given: argparse.Namespace, folder: Path) -> bool:
    """Play in calm and with each seed; tell whether all are equal."""
    print(f"chaos: to {given.until}; logs and summaries are in {folder}", flush=True)
    if not given.calm:
        print("chaos: the calm run", flush=True)
    calm = json.loads(given.calm.read_text()) if given.calm else play_alone(0, given, folder)
    equal = calm["complete"] and not calm["faults"]
    if not equal:
        print("\n  ".join(["chaos: the calm run has faults", *calm["faults"]]), flush=True)
    for seed in given.seeds:
        print(f"chaos: seed {seed}: wall time, event time, what was done", flush=True)
        found = comparison.differences(calm, play_alone(seed, given, folder))
        print(verdict(seed, found), flush=True)
        equal = equal and not found
    return bool(equal)


def main() -> None:
    """Compare each seed with the calm run."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--until", default="2013-03-01", help="send no requests from this date on")
    parser.add_argument("--short", action="store_true", help="each kind of disturbance, but to few processes")
    parser.add_argument("--calm", type=Path, help="compare with this summary, and play no calm run")
    parser.add_argument("--folder", type=Path, help="of logs and summaries; by default a new one")
    parser.add_argument("--play", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.play is not None:
        sys.exit(Player(given.play, given.until, given.to, is_short=given.short).play())
    try:
        with stoppable():
            equal = compare(given, given.folder or Path(tempfile.mkdtemp(prefix="driftline-chaos-")))
    except KeyboardInterrupt:
        print("chaos: stopped; all processes have ended")
        sys.exit(128 + signal.SIGINT)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
