"""The cost of many models in one scoring process: memory, start-up, CPU while idle, and rate.

Each model has its own request topic with one partition, its own consumer group and its own signed version.
All versions have the same files, so that registering 200 takes seconds; each is verified and loaded
separately. Measured with 1, 50 and 200 models, with a new process each time.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench import processes, report
from bench.report import Figures
from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL, REQUESTS, USERS
from bench.scoring_job.load import EVENT_TIME
from bench.scoring_job.running import COMMAND, SECONDS_MAX, wait_ready
from services.model_registry import mlflow_client, registration, signing
from services.runtime import declaration_file, topic_creation
from services.runtime.declaration import FILE, ModelDeclaration
from services.runtime.settings import Settings
from streams import records
from streams.producer import BatchProducer, Record
from streams.topics import MODELS

COUNTS = (1, 50, 200)
EVENTS = 60_000
"""Requests of all models together."""
IDLE_SECONDS = 10.0
SCORED = re.compile(r'^driftline_predictions_total\{[^}]*outcome="scored"[^}]*\} (\S+)', re.MULTILINE)

Batches = Mapping[tuple[str, int], list[Record]]
"""Records by topic and partition."""


def main() -> None:
    """Measure and report."""
    measures: dict[str, dict[str, Figures]] = {}
    with installation.installed([]) as (base, estimator), tempfile.TemporaryDirectory() as folder:
        settings = base.model_copy(update={"models": Path(folder), "partitions": 1})
        os.environ |= settings.environment()
        names: list[str] = []
        for count in COUNTS:
            added = [f"model_{number}" for number in range(len(names), count)]
            names += added
            for name in added:
                _declare(settings, name)
            topic_creation.ensure_topics(settings, {name: _declaration(settings, name) for name in added})
            first = names[0], installation.register(settings, estimator, names[0])
            _announce(settings, added, first)
            measures[f"{count} models"] = {"driftline": _measure(settings, names)}
            print(measures, flush=True)
    report.write_measures("fleet", measures, {}, "models in one scoring process, a topic and a group each")


def _declare(settings: Settings, name: str) -> None:
    """Write the declaration of a model with its own request topic."""
    text = (JOB / "models" / MODEL / FILE).read_text(encoding="utf-8")
    path = settings.models / name / FILE
    path.parent.mkdir()
    path.write_text(text.replace(f"name: {MODEL}", f"name: {name}").replace(REQUESTS, f"{name}.requests"))


def _declaration(settings: Settings, name: str) -> ModelDeclaration:
    return declaration_file.load_named(settings.models / name / FILE)


def _announce(settings: Settings, names: Sequence[str], first: tuple[str, int]) -> None:
    """Register the files of the first model's version for each model, and make it the champion."""
    client = mlflow_client.connect(settings)
    registered = client.get_model_version(first[0], str(first[1]))
    run = client.get_run(registered.run_id).info
    digest, flavour, _ = (registered.tags[tag] for tag in mlflow_client.SIGNED_TAGS)
    changes: list[Record] = []
    for name in names:
        signature = signing.sign(settings, signing.Statement(name, flavour, digest))
        tags = dict(zip(mlflow_client.SIGNED_TAGS, (digest, flavour, signature), strict=True))
        change = records.ModelChanged(
            model=name,
            arms=[
                records.Arm(
                    name="champion",
                    version=registration.create(client, name, run, tags),
                    weight=10_000,
                )
            ],
            changed_at_ms=0,
            reason="bench",
        )
        changes.append((name.encode(), records.encode(change), []))
    _send(settings, {(MODELS.name, 0): changes})


def _measure(settings: Settings, names: Sequence[str]) -> Figures:
    began = time.monotonic()
    with processes.running(COMMAND, settings.home / "scoring.log") as process:
        wait_ready(settings)
        ready = time.monotonic()
        watched = psutil.Process(process.pid)
        _ask(settings, names, len(names), first=0)
        _wait(settings, len(names))
        loaded = time.monotonic()
        time.sleep(2)  # until loading has ended
        before = _cpu_seconds(watched)
        time.sleep(IDLE_SECONDS)
        idle_cores = (_cpu_seconds(watched) - before) / IDLE_SECONDS
        _ask(settings, names, EVENTS, first=len(names))
        asked = time.monotonic()
        done = _scored(settings)
        _wait(settings, len(names) + EVENTS)
        rate = (len(names) + EVENTS - done) / (time.monotonic() - asked)
        return {
            "ready_seconds": ready - began,
            "all_loaded_seconds": loaded - ready,
            "rss_mb": watched.memory_info().rss / 1e6,
            "threads": float(watched.num_threads()),
            "idle_cores": idle_cores,
            "events_per_second": rate,
        }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _ask(settings: Settings, names: Sequence[str], events: int, *, first: int) -> None:
    """Write requests, evenly distributed to all models."""
    batches: dict[tuple[str, int], list[Record]] = {(f"{name}.requests", 0): [] for name in names}
    partitions = list(batches)
    for number in range(first, first + events):
        user = f"user-{number % USERS}"
        value = f'{{"request_id":"{number}","event_time":"{EVENT_TIME}","user_id":"{user}"}}'
        batches[partitions[number % len(partitions)]].append((user.encode(), value.encode(), []))
    _send(settings, batches)


def _send(settings: Settings, batches: Batches) -> None:
    async def write() -> None:
        producer = BatchProducer(settings.kafka_options())
        await producer.start()
        try:
            await asyncio.gather(
                *(producer.send(topic, number, batch) for (topic, number), batch in batches.items() if batch)
            )
        finally:
            await producer.stop()

    asyncio.run(write())


def _wait(settings: Settings, wanted: int) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while _scored(settings) < wanted:
        if time.monotonic() > deadline:
            sys.exit(f"bench: {_scored(settings)} of {wanted} requests were scored")
        time.sleep(0.1)


def _scored(settings: Settings) -> int:
    """Return the number of predictions that the process has counted."""
    with urllib.request.urlopen(
        f"http://{settings.host}:{settings.scoring_port}/metrics", timeout=10
    ) as page:
        return int(sum(map(float, SCORED.findall(page.read().decode()))))


if __name__ == "__main__":
    main()
