"""One definition, two executions: values served by the stream, and values that Feast joins from the files."""

import asyncio
import contextlib
import dataclasses
import json
import math
import random
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.feature_store import repository
from services.feature_store.online_reader import OnlineReader
from services.feature_store.served_features import ServedFeatures
from services.features.offline import backfill
from services.features.offline.skew_check import SkewCheck, SkewLimits
from services.features.offline.skew_report import report_lines
from services.features.offline.watermark_index import IndexSpacing
from services.monitoring import inference_log
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from tests.processes import Process
from tests.shop import (
    PARTITIONS,
    START_MS,
    Shop,
    Till,
    a_day,
    open_shop,
    order,
    read_topic,
    stamp,
    wait_until_complete,
)
from tests.waiting import LIVENESS_SECONDS, until

LATENESS_MS = 60_000
END_MS = START_MS + 3 * 3_600_000
SEEN_MS = 1_200_000
"""Time after the start by which every shop and desk has had an event."""
FEATURES = (
    *("amount_sum", "amount_count", "amount_max", "amount_std", "desk_mean", "desk_life"),
    *("heat", "state", "open", "people"),
)


@dataclasses.dataclass
class ArchivedRecord:
    topic: str
    offset: int
    value: bytes | None
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@pytest.fixture(scope="module")
def till(
    kafka: str, valkey: str, http_ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Till]:
    """A day of events, processed by the features process and archived by the archive process."""
    folder, prefix = tmp_path_factory.mktemp("history"), f"t{uuid.uuid4().hex[:12]}"
    changes = {"broker": kafka, "redis_url": valkey, "home": folder / "home", "skew_share": 1.0}
    settings = Settings().model_copy(update={**changes, **http_ports})
    shop = open_shop(settings, prefix, folder, lateness_seconds=LATENESS_MS // 1000)
    with contextlib.closing(Till(shop)) as till:
        send_with_heartbeats(till)
        with Process("features", shop.settings, log=folder / "features.log") as process:
            process.wait_ready()
            archive_all(shop, folder / "archive.log")
            wait_until_complete(shop, END_MS - LATENESS_MS)
        yield till


def shuffled(shop: Shop, count: int, seed: int) -> list[tuple[str, int, int, bytes]]:
    """Return a day of events out of order by up to twice the lateness, every twentieth event twice."""
    rng = random.Random(seed)
    day = a_day(shop, count, seed)
    late = [(at + rng.randrange(2 * LATENESS_MS), event) for event in day for at in [event[2]]]
    return [event for _, event in sorted(late) for _ in range(1 + (rng.random() < 0.05))]


def send_with_heartbeats(till: Till) -> None:
    """Send a day of events; heartbeats in the middle make events late that would not be late otherwise."""
    day = shuffled(till.shop, 1600, seed=5)
    till.send(day[:800])
    middle_ms = max(event[2] for event in day[:800])
    till.beat(middle_ms + LATENESS_MS + 30_000)
    rng = random.Random(6)
    till.send(
        (till.shop.orders, n, middle_ms + 20_000, order(middle_ms + 20_000, n, rng))
        for n in range(PARTITIONS)
    )
    future = order(32_503_680_000_000, 8, rng)  # the year 3000
    till.send([(till.shop.orders, 0, 0, b"{"), (till.shop.orders, 1, 0, future)])
    till.send(day[800:])
    till.beat(END_MS)


def archive_all(shop: Shop, log: Path) -> None:
    """Run the archive process until it has committed all records of the shop's topics."""
    ensure_topics(shop.settings, {})
    with contextlib.closing(KafkaConsumer(bootstrap_servers=shop.settings.broker)) as consumer:
        partitions = [TopicPartition(t, n) for t in (shop.orders, shop.readings) for n in range(PARTITIONS)]
        ends = {(p.topic, p.partition): offset for p, offset in consumer.end_offsets(partitions).items()}
    hurry = records.RetrainingRequested(
        request_id="hurry",
        model="none",
        trigger="manual",
        requested_at_ms=0,
        reason="so that the archive commits at once",
        offsets={t: [ends[t, n] for n in range(PARTITIONS)] for t in (shop.orders, shop.readings)},
    )
    with Process("archive", shop.settings, log=log) as archive:
        archive.wait_ready()
        with contextlib.closing(KafkaProducer(bootstrap_servers=shop.settings.broker)) as producer:
            producer.send(topics.RETRAINING.name, records.encode(hurry)).get(30)

        def complete() -> bool:
            held = inference_log.positions(
                shop.settings, "events", {t: range(PARTITIONS) for t in (shop.orders, shop.readings)}
            )
            return all(held[topic][number] >= end for (topic, number), end in ends.items())

        until(complete, "everything is archived")


Asked = dict[str, list[Any]]
Times = np.ndarray[Any, np.dtype[np.int64]]


def requests(till: Till, shops: list[str]) -> tuple[Asked, Times]:
    """Return requests at many times, most of them close to times at which values change."""
    rng = random.Random(7)
    sent_ms = sorted({record.time_ms for record in till.sent if record.time_ms})
    jumps_ms = (-1, 0, 1, 600_000, 1_800_000, 3_600_000, 3_600_001)
    drawn = [rng.randrange(START_MS, END_MS) for _ in range(300)]
    drawn += [rng.choice(sent_ms) + rng.choice(jumps_ms) for _ in range(500)]
    # Feast drops requests that are equal.
    rows = {(at, rng.choice(shops), rng.choice([1, 2, 3, 99])) for at in drawn if at >= START_MS + SEEN_MS}
    times, *entities = (list(column) for column in zip(*sorted(rows), strict=True))
    return dict(zip(("shop", "desk"), entities, strict=True)), np.array(times, dtype=np.int64)


def online(shop: Shop, asked: Asked, times_ms: Times) -> ServedFeatures:
    async def read() -> ServedFeatures:
        async with OnlineReader.connect(shop.settings, shop.plan.service("everything")) as reader:
            return await reader.read(asked, times_ms)

    return asyncio.run(read())


def historical(shop: Shop, asked: Asked, times_ms: Times) -> pd.DataFrame:
    """Return the values that Feast joins, as for a training set."""
    features = [f"{v.name}:{f}" for v in shop.plan.views if v.is_stream for f in v.feature_names]
    frame = pd.DataFrame(
        {
            **asked,
            "row": range(len(times_ms)),
            "event_timestamp": pd.to_datetime(times_ms, unit="ms", utc=True),
        }
    )
    with repository.feast_store(shop.settings) as store:
        found: pd.DataFrame = store.get_historical_features(frame, features).to_df()
    return found.set_index("row").sort_index()


def test_feast_joins_the_bits_that_were_served_online(
    till: Till,
) -> None:
    shop = till.shop
    results = {result.view: result for result in backfill.run(shop.settings, shop.plan, lambda *_: None)}
    assert_results(shop, results)

    asked, times_ms = requests(till, ["mill", "dock", "hill", "nowhere"])
    served, joined = online(shop, asked, times_ms), historical(shop, asked, times_ms)
    assert len(joined) == len(times_ms), "the join returns a row for every request"
    for name in FEATURES:
        ours, theirs = served.columns[name], joined[name]
        missing = pd.isna(ours) | (np.array(asked["shop"]) == "nowhere")
        assert pd.isna(theirs).tolist() == missing.tolist(), name
        assert 100 < missing.sum() < len(times_ms) - 100, f"{name}: both cases are there"
        if name == "state":
            assert theirs[~missing].tolist() == ours[~missing].tolist()
        else:
            bits = theirs[~missing].to_numpy(dtype=np.float64).view(np.int64)
            assert bits.tolist() == ours[~missing].view(np.int64).tolist(), name


def assert_results(shop: Shop, results: dict[str, backfill.BackfillResult]) -> None:
    """The same records are late as in the stream, and every dropped record is counted."""
    for view in shop.plan.views:
        if not view.is_stream:
            continue
        result = results[view.name]
        late = read_topic(shop.settings.broker, topics.late(view.name))
        assert result.late == len(late) > PARTITIONS * ("latest" not in view.name)
        assert result.invalid == 2 * ("latest" not in view.name)
        file = pq.read_table(result.path)
        assert file.num_rows == result.rows + result.entities


def declared(prefix: str) -> dict[str, Any]:
    return {
        "name": f"model_{prefix}",
        "owner": "tests",
        "task": "binary",
        "request": {
            "topic": f"{prefix}.requests",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "shop": "string", "desk": "int?"},
        },
        "features": {"service": "everything", "from_request": ["desk"]},
        "label": {
            "topic": f"{prefix}.labels",
            "id": "id",
            "event_time": "at",
            "value": "truth",
            "positive_above": 0.5,
            "horizon_hours": 1,
            "schema": {"id": "string", "at": "timestamp", "truth": "float"},
        },
        "gates": {"floor": 0.7},
    }


def declaration(prefix: str) -> ModelDeclaration:
    return ModelDeclaration.model_validate(declared(prefix))


def archive_served(settings: Settings, model: ModelDeclaration, served: list[dict[str, Any]]) -> None:
    """Archive requests and their predictions, all in partition 0, as the archive process would."""
    values = [json.dumps(row["request"]).encode() for row in served]
    asked = [ArchivedRecord(model.request.topic, n, value) for n, value in enumerate(values)]
    predictions = [
        records.Prediction(
            prediction_id=row["request"]["id"],
            model=model.name,
            version=0,
            arm="collecting",
            arm_weight=10_000,
            event_time_ms=row["at_ms"],
            scored_time_ms=row.get("scored_ms", 0),
            source_partition=records.ASKED_OVER_HTTP if row.get("over_http") else 0,
            source_offset=records.ASKED_OVER_HTTP if row.get("over_http") else n,
            features=[*(row["request"][name] for name in model.features.from_request), *row["features"]],
            features_lag_ms=row["lag_ms"],
            score=None,
            prediction=None,
        )
        for n, row in enumerate(served)
    ]
    topic = topics.predictions(model.name)
    answers = [ArchivedRecord(topic, n, records.encode(record)) for n, record in enumerate(predictions)]
    for table, found in ((row_schemas.EVENTS, asked), (row_schemas.PREDICTIONS, answers)):
        rows = [DecodedRecord(record, table.decode(record.value or b"")) for record in found]
        DeltaWriter(settings, table).append(rows, {(found[0].topic, 0): len(found)})


def as_requests(shop: Shop, asked: Asked, times_ms: Times, served: ServedFeatures) -> list[dict[str, Any]]:
    columns = [[None if pd.isna(v) else v for v in column.tolist()] for column in served.columns.values()]
    return [
        {
            "request": {"id": f"r{n}", "at": stamp(at), "shop": asked["shop"][n], "desk": asked["desk"][n]},
            "at_ms": at,
            "lag_ms": 0,
            "features": [column[n] for column in columns],
        }
        for n, at in enumerate(times_ms.tolist())
    ]


def test_skew_check_accepts_served_values_and_names_each_changed_value(till: Till) -> None:
    """Passes of 150 requests, so that each pass skips most of the archive by the index."""
    spacing = IndexSpacing(records=50, fine_entries=2, coarse_records=100)
    limits = SkewLimits(requests_max=150, disorder_ms=60_000, spacing=spacing)
    shop, model = till.shop, declaration(till.shop.prefix)
    asked, times_ms = requests(till, ["mill", "dock", "hill"])
    rows = as_requests(shop, asked, times_ms, online(shop, asked, times_ms))
    rows[20]["lag_ms"] = 7
    rows[30]["lag_ms"] = None
    rows[40]["features"].pop()
    rows[50]["over_http"] = True  # its request is not archived: nothing to compare
    complete = [row for row in rows if row["at_ms"] <= END_MS - LATENESS_MS]
    sources = dict.fromkeys(shop.plan.by_topic(), PARTITIONS)
    check = SkewCheck(shop.settings, shop.plan, model, sources, limits)
    archive_served(shop.settings, model, rows)
    report = check.run()
    assert (report.checked, report.behind, report.unreadable) == (len(complete) - 4, 2, 1)
    assert 600 < report.checked < len(rows), "the last requests wait for their watermark"
    assert report.different == 0, report_lines(report)
    assert sum(item.equal for item in report.features) == report.checked * len(FEATURES)
    again = SkewCheck(shop.settings, shop.plan, model, sources, limits).run()
    assert again == report, "nothing is compared twice"

    names = list(shop.plan.service("everything").feature_names)
    wrong = declaration(f"{shop.prefix}_wrong")
    present = {
        name: next(n for n in range(100, 300) if rows[n]["features"][names.index(name)] is not None)
        for name in ("amount_sum", "state")
    }
    absent = next(n for n in range(300, 500) if rows[n]["features"][names.index("desk_mean")] is None)
    right = rows[present["amount_sum"]]["features"][names.index("amount_sum")]
    rows[present["amount_sum"]]["features"][names.index("amount_sum")] = math.nextafter(right, math.inf)
    rows[present["state"]]["features"][names.index("state")] = None
    rows[absent]["features"][names.index("desk_mean")] = 1.5
    archive_served(shop.settings, wrong, rows)
    report = SkewCheck(shop.settings, shop.plan, wrong, sources, limits).run()
    found = {(d.prediction_id, d.feature, d.result.value) for d in report.differences}
    assert found == {
        (f"r{present['amount_sum']}", "amount_sum", "mismatched"),
        (f"r{present['state']}", "state", "missing"),
        (f"r{absent}", "desk_mean", "extra"),
    }
    (item,) = (item for item in report.features if item.feature == "amount_sum")
    assert item.distance_max == math.nextafter(right, math.inf) - right
    assert any("amount_sum mismatched" in line for line in report_lines(report))


def test_skew_check_waits_for_a_partition_without_archived_records(till: Till) -> None:
    shop = till.shop
    unmet = declaration(f"{shop.prefix}_unmet")
    asked: Asked = {"shop": ["mill"], "desk": [1]}
    times_ms = np.array([START_MS + SEEN_MS], dtype=np.int64)
    archive_served(shop.settings, unmet, as_requests(shop, asked, times_ms, online(shop, asked, times_ms)))
    sources = dict.fromkeys(shop.plan.by_topic(), PARTITIONS + 1)
    assert SkewCheck(shop.settings, shop.plan, unmet, sources).run().checked == 0


def test_predictions_of_other_definitions_are_skipped(till: Till) -> None:
    shop, model = till.shop, declaration(f"{till.shop.prefix}_changed")
    asked: Asked = {"shop": ["mill"], "desk": [1]}
    times_ms = np.array([START_MS + SEEN_MS], dtype=np.int64)
    rows = as_requests(shop, asked, times_ms, online(shop, asked, times_ms))
    sources = dict.fromkeys(shop.plan.by_topic(), PARTITIONS)
    archive_served(shop.settings, model, rows)
    assert SkewCheck(shop.settings, shop.plan, model, sources).run().checked == 1
    views = [dataclasses.replace(view, ttl_ms=view.ttl_ms + 1) for view in shop.plan.views]
    changed = dataclasses.replace(shop.plan, views=tuple(views))
    archive_served(shop.settings, model, rows * 2)
    report = SkewCheck(shop.settings, changed, model, sources).run()
    assert (report.checked, report.behind, report.unreadable) == (0, 0, 0)


def test_skew_command_repeats_and_reports_each_kind_of_difference(till: Till, tmp_path: Path) -> None:
    """One difference of each kind is planted; report and metrics name each of them, and no other."""
    shop, prefix = till.shop, f"{till.shop.prefix}_command"
    model = declaration(prefix)
    folder = tmp_path / "models" / model.name
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(json.dumps(declared(prefix)))  # JSON is YAML
    asked, times_ms = requests(till, ["mill"])
    rows = as_requests(shop, asked, times_ms, online(shop, asked, times_ms))[:40]
    names = list(shop.plan.service("everything").feature_names)
    rows[0]["lag_ms"], rows[1]["features"] = 9, []
    total, state, mean = (names.index(name) for name in ("amount_sum", "state", "desk_mean"))
    wrong = next(row for row in rows[2:] if row["features"][total])
    missing = next(row for row in rows[2:] if row["features"][state] is not None)
    extra = next(row for row in rows[2:] if row["features"][mean] is None)
    right = wrong["features"][total]
    wrong["features"][total] = -right
    kept, missing["features"][state] = missing["features"][state], None
    extra["features"][mean] = 1.5
    archive_served(shop.settings, model, rows)
    settings = shop.settings.model_copy(update={"models": tmp_path / "models"})
    command = (sys.executable, "-m", "services.operations.cli", "features", "skew")
    log = tmp_path / "skew.log"
    summary = (
        f"{model.name}: 38 requests compared, 3 values differ; "
        "not compared: 1 served from lagging views, 1 unreadable"
    )
    with Process("skew", settings, log=log, command=command, arguments=("--every", "0.2")) as process:
        process.wait_ready()
        until(lambda: log.read_text().count(summary) > 1, "two rounds")
        metrics = httpx.get(f"{process.url}/metrics", timeout=LIVENESS_SECONDS).text
        code = process.stop()
    assert code == 0

    told = log.read_text()
    nothing = "0 mismatched, 0 missing, 0 extra; distance at most 0, SMAPE 0"
    counts = {
        "amount_sum": f"37 equal, 1 mismatched, 0 missing, 0 extra; distance at most {2 * abs(right):.6g}, "
        f"SMAPE {2 / 38:.6g}",
        "state": "37 equal, 0 mismatched, 1 missing, 0 extra; distance at most 0, SMAPE 0",
        "desk_mean": "37 equal, 0 mismatched, 0 missing, 1 extra; distance at most 0, SMAPE 0",
        "amount_max": f"38 equal, {nothing}",
        "width": "nothing compared",
    }
    for name, line in counts.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", told, re.MULTILINE), name
    assert f"{wrong['request']['id']} at {wrong['at_ms']}: amount_sum mismatched: served {-right}, " in told
    assert f"state missing: served None, recomputed {kept!r}\n" in told
    assert "desk_mean extra: served 1.5, recomputed None\n" in told

    measured = {
        'requests_total{model="MODEL",result="checked"}': 38,
        'requests_total{model="MODEL",result="behind"}': 1,
        'requests_total{model="MODEL",result="unreadable"}': 1,
        'values_total{feature="amount_sum",model="MODEL",result="mismatched"}': 1,
        'values_total{feature="amount_sum",model="MODEL",result="equal"}': 37,
        'values_total{feature="state",model="MODEL",result="missing"}': 1,
        'values_total{feature="desk_mean",model="MODEL",result="extra"}': 1,
        'values_total{feature="amount_max",model="MODEL",result="equal"}': 38,
        'distance_max{feature="amount_sum",model="MODEL"}': 2 * abs(right),
        'smape_ratio{feature="amount_sum",model="MODEL"}': 2 / 38,
        'distance_max{feature="state",model="MODEL"}': 0,
        'checked_until_seconds{model="MODEL"}': max(row["at_ms"] for row in rows[2:]) / 1000,
    }
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines())
    for name, value in measured.items():
        assert float(values[f"driftline_skew_{name}".replace("MODEL", model.name)]) == pytest.approx(value), (
            name
        )
    differing = re.findall(
        r'^driftline_skew_values_total.*result="(?!equal).* [^0].*$', metrics, re.MULTILINE
    )
    assert len(differing) == 3
