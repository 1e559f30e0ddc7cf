"""The feature engine against Feast: the same features of the same entities on the same Valkey.

For writes see `bench.feature_writes`.

Reads: ten features of one entity, for 1, 100 and 500 entities at once. The features span three views, as
those of a real service do; ``_one_view`` marks the same ten features in one view. Both sides are called as an
application calls them, in one process and one thread, in turns: other load on the machine affects both.
Ours is the `OnlineReader` in an event loop; Feast's call blocks. The third contender is the bare round trip:
the same commands, encoded beforehand, and their replies, not decoded. No reader can be faster than that, in
whatever language its client is written.
"""

import asyncio
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hiredis
import numpy as np

from bench import feature_writes, report
from bench.report import Figures
from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, NAMES, USERS
from services.feature_store import feast_layout, repository
from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import Column, ValueType
from services.operations.local_servers import kafka, ports, valkey
from services.operations.local_servers.supervisor import Supervisor
from services.runtime.redis_commands import KeyTemplate
from services.runtime.settings import Settings

CALLS = {1: 2000, 100: 200, 500: 60}
"""Calls of each contender by rows: enough for a 99th percentile, few enough for half a minute in total."""
TURNS = 5
WARM_UP_CALLS = 10
"""Calls before the first turn of a contender, which open connections and fill caches."""
AT_MS = 1_767_312_000_000
"""2026-01-02, a day after the features were written."""
VIEWS = {"account": NAMES[:4], "habits": NAMES[4:7], "history": NAMES[7:]}
"""The features of each view of the service ``spread``."""
ONE_VIEW = {"profile": NAMES}
FEAST, OURS = "feast get_online_features", "driftline"
BARE = "the bare round trip"

Users = Sequence[str]
Contender = Callable[[Sequence[Users]], list[float]]
"""Makes one call for each list of users; returns the milliseconds of each call."""


def main() -> None:
    """Measure and report; a ratio is our speed divided by Feast's."""
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder, Supervisor() as supervisor:
        settings = _install(Path(folder), supervisor)
        reads, read_ratios = _reads(settings, "spread", VIEWS)
        one_view, one_view_ratios = _reads(settings, "profile", ONE_VIEW, suffix="_one_view")
        # The broker starts after the reads, so that only Valkey shares the machine with them.
        writes, write_ratios = feature_writes.measure(_with_kafka(settings, Path(folder), supervisor))
    notes = "10 Feast features of one entity over 3 views, or in one view; one Valkey"
    ratios = read_ratios | one_view_ratios | write_ratios
    report.write_measures("features", reads | one_view | writes, ratios, notes)


def _install(folder: Path, supervisor: Supervisor) -> Settings:
    """Start Valkey, apply the repository and let Feast write the features."""
    port = ports.free_port()
    server = valkey.start(supervisor, folder / "valkey", port)
    supervisor.wait_ready(server, seconds=valkey.READY_SECONDS_MAX)
    settings = Settings(
        home=folder / "home", feature_repo=JOB / "feature_repo", redis_url=f"redis://127.0.0.1:{port}/0"
    )
    settings.home.mkdir()
    os.environ |= settings.environment()
    installation.write_features(settings)
    _write_views(settings)
    return settings


def _write_views(settings: Settings) -> None:
    """Let Feast write the same values again, spread over several views."""
    import pandas as pd
    from feast import FeatureStore

    frame = pd.read_parquet(settings.home / "users.parquet")
    store = FeatureStore(repo_path=str(settings.feature_repo))
    for view, names in VIEWS.items():
        store.write_to_online_store(view, frame[["user_id", "event_timestamp", *names]])


def _with_kafka(settings: Settings, folder: Path, supervisor: Supervisor) -> Settings:
    port = ports.free_port()
    server = kafka.start(supervisor, folder / "kafka", port)
    supervisor.wait_ready(server, seconds=kafka.READY_SECONDS_MAX)
    return settings.model_copy(update={"broker": f"127.0.0.1:{port}"})


def _reads(
    settings: Settings, service: str, views: Mapping[str, Sequence[str]], suffix: str = ""
) -> tuple[dict[str, dict[str, Figures]], dict[str, float]]:
    """Return the latencies of each contender by ``read_<rows>``, and our ratios to Feast's median."""
    from feast import FeatureStore

    with repository.quiet():
        store = FeatureStore(repo_path=str(settings.feature_repo))
    names = [f"{view}:{name}" for view, features in views.items() for name in features]

    def feast(users: Users) -> Any:
        return store.get_online_features(features=names, entity_rows=[{"user_id": user} for user in users])

    with asyncio.Runner() as runner:
        reader = OnlineReader.connect(settings, service)

        async def ours(users: Users) -> Any:
            return await reader.read({"user_id": users}, np.full(len(users), AT_MS))

        async def time_ours(calls: Sequence[Users]) -> list[float]:
            milliseconds = []
            for users in calls:
                began = time.perf_counter()
                await ours(users)
                milliseconds.append((time.perf_counter() - began) * 1000)
            return milliseconds

        _compare(feast, lambda users: runner.run(ours(users)))
        contenders: dict[str, Contender] = {
            FEAST: lambda calls: _time(feast, calls),
            OURS: lambda calls: runner.run(time_ours(calls)),
            BARE: _bare(settings, store.project, views),
        }
        measures = {f"read_{rows}{suffix}": _race(contenders, rows) for rows in CALLS}
        runner.run(reader.close())
    return measures, {name: race[FEAST]["p50_ms"] / race[OURS]["p50_ms"] for name, race in measures.items()}


def _bare(settings: Settings, project: str, views: Mapping[str, Sequence[str]]) -> Contender:
    """Return a contender that sends our commands and reads the replies without decoding them."""
    address = urlsplit(settings.redis_url)
    connection = socket.create_connection((address.hostname, address.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    replies, buffer = hiredis.Reader(), bytearray(1 << 17)
    key_of = feast_layout.entity_key_encoder(project, [Column("user_id", ValueType.STRING)])
    fields = [feast_layout.feature_field(view, name) for view, names in views.items() for name in names]
    hmget = KeyTemplate("HMGET", *fields)

    def exchange(commands: bytes, count: int) -> None:
        connection.sendall(commands)
        while count:
            replies.feed(buffer, 0, connection.recv_into(buffer))  # type: ignore[arg-type]  # takes any buffer
            while replies.gets() is not False:
                count -= 1

    def run(calls: Sequence[Users]) -> list[float]:
        encoded = [b"".join(hmget.encode(key_of([user]) for user in users)) for users in calls]
        milliseconds = []
        for commands, users in zip(encoded, calls, strict=True):
            began = time.perf_counter()
            exchange(commands, len(users))
            milliseconds.append((time.perf_counter() - began) * 1000)
        return milliseconds

    return run


def _compare(feast: Callable[[Users], Any], ours: Callable[[Users], Any]) -> None:
    """Exit if we read other values than Feast."""
    users = ["user-0", "user-17", "nobody"]
    theirs = feast(users).to_dict()
    for name, column in ours(users).columns.items():
        if not np.array_equal(column, np.array(theirs[name], dtype=float), equal_nan=True):
            sys.exit(f"bench: driftline and Feast differ on {name}")


def _race(contenders: dict[str, Contender], rows: int) -> dict[str, Figures]:
    chooser = random.Random(rows)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS):
        calls = [
            [f"user-{number}" for number in chooser.sample(range(USERS), rows)]
            for _ in range(CALLS[rows] // TURNS)
        ]
        for name, run in contenders.items():
            if turn == 0:
                run(calls[:WARM_UP_CALLS])
            taken[name] += run(calls)
    return {
        name: {"p50_ms": float(np.percentile(each, 50)), "p99_ms": float(np.percentile(each, 99))}
        for name, each in taken.items()
    }


def _time(read: Callable[[Users], Any], calls: Sequence[Users]) -> list[float]:
    milliseconds = []
    for users in calls:
        began = time.perf_counter()
        read(users)
        milliseconds.append((time.perf_counter() - began) * 1000)
    return milliseconds


if __name__ == "__main__":
    main()
