"""``driftline erase``: nothing of one subject is left where it says so; the other's data are unchanged."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.feature_store import erasures
from services.model_registry import ledger
from services.monitoring import inference_log
from services.operations.erasure import archived_rows, command, held_letters, kafka_holdings
from services.operations.erasure import run as erasure_run
from services.runtime.settings import Settings
from streams import records, topics
from tests import erasure_world
from tests.erasure_world import GONE, KEPT, REQUESTS, World
from tests.processes import Process
from tests.shop import START_MS, read_topic, stamp, stored_hashes, wait_until_complete
from tests.waiting import until

Output = Callable[[], str]
CRASHES = (
    (erasure_run, "_write", 1, False),
    (erasure_run, "_write", 1, True),
    (held_letters, "delete_before", 1, False),
    (held_letters, "delete_before", 1, True),
    (archived_rows, "delete", 1, True),
    (archived_rows, "remove_old_files", 2, True),
    (archived_rows, "delete", 3, True),
    (erasure_run, "_write", 2, False),
)
"""Where the command is killed, one run after the other: module, function, which call, before or after it."""


class CrashError(BaseException):
    """Simulates that the command is killed at this call."""


@pytest.fixture
def settings(kafka: str, valkey: str, http_ports: dict[str, int], tmp_path: Path) -> Settings:
    """Settings without MLflow, which is not asked."""
    changes = {"broker": kafka, "redis_url": valkey, "home": tmp_path / "home"}
    return Settings().model_copy(update={**changes, **http_ports})


@pytest.fixture
def world(
    settings: Settings, client: Any, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    del client  # it empties the store
    world = erasure_world.opened(settings, unique_name, tmp_path)
    for name, value in world.settings.environment().items():
        monkeypatch.setenv(name, value)
    yield world
    world.till.close()


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    return lambda: capsys.readouterr().out


def erase(*words: str, **options: Any) -> None:
    command.erase(*(words or ("shop", GONE)), reason="asked by letter", by="ada", **options)


def crash_at(patched: pytest.MonkeyPatch, module: Any, name: str, call: int, *, after: bool) -> None:
    """Crash at a call of a function, counted from 1, before or after it has done its work."""
    real, calls = getattr(module, name), itertools.count(1)

    def crashing(*args: Any, **kwargs: Any) -> Any:
        is_due = next(calls) == call
        if is_due and not after:
            raise CrashError
        result = real(*args, **kwargs)
        if is_due:
            raise CrashError
        return result

    patched.setattr(module, name, crashing)


def letters_with(world: World, text: str) -> int:
    found = read_topic(world.settings.broker, topics.DEAD_LETTERS.name)
    decode = records.decoder_of(records.DeadLetter).decode
    letters = [decode(record.value) for record in found if record.value is not None]
    return sum(text.encode() in (letter.value or b"") for letter in letters)


def others(world: World) -> Mapping[str, Any]:
    """Return all that is kept of the shop that is not erased."""
    tables = {name: erasure_world.rows_of(world, name) for name in inference_log.TABLES}
    return {**tables, "online": {k: v for k, v in stored_hashes(world.shop).items() if KEPT.encode() in k}}


def test_one_subject_is_erased_everywhere_also_after_kills_and_does_not_come_back(
    world: World, output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_root = Path(world.settings.archive_root)
    with (
        Process("features", world.settings, log=tmp_path / "features.log") as features,
        Process("archive", world.settings, log=tmp_path / "archive.log"),
    ):
        erasure_world.send_all(world)
        features.wait_ready()
        wait_until_complete(world.shop, START_MS + 3_599_999)
        erasure_world.wait_archived(world)
        before = others(world)
        letters_before = letters_with(world, KEPT)
        assert len(before["online"]) == 3, "by shop with the latest, and two desks"
        assert erasure_world.keys_with(world, GONE)
        assert erasure_world.files_with(archive_root, GONE)

        output()
        erase(dry_run=True)
        shown = output()
        assert "would be erased" in shown
        assert re.search(rf"archive: predictions +{REQUESTS} +{REQUESTS}\n", shown), shown
        assert "retention.ms=-1: without a limit" in shown
        assert erasure_world.keys_with(world, GONE)
        assert not erasures.read(world.settings)

        for module, name, call, after in CRASHES:
            with monkeypatch.context() as patched:
                crash_at(patched, module, name, call, after=after)
                with pytest.raises(CrashError):
                    erase()
        erase()
        shown = output()
        assert f"ok  erased; the ledger has it as {erasures.read(world.settings)[0].erasure_id}" in shown
        assert "typed.parquet: 2 rows of the subject in a batch source" in shown
        assert pq.read_table(erasure_world.history(world))["shop"].to_pylist() == [KEPT]
        assert_nothing_left(world)
        assert others(world) == before
        assert letters_with(world, KEPT) == letters_before

        erase()
        assert "ok  nothing is left to erase" in output()
        assert_recorded(world)

    # The topics still hold its events: a rebuild does not bring them back, and new events count.
    with world_store(world) as store:
        store.flushdb()
    with Process("features", world.settings, log=tmp_path / "again.log") as features:
        features.wait_ready()
        wait_until_complete(world.shop, START_MS + 3_599_999)
        assert not erasure_world.keys_with(world, GONE)
        assert {k: v for k, v in stored_hashes(world.shop).items() if KEPT.encode() in k} == before["online"]
        time_ms = START_MS + 7_200_000
        event = {"shop": GONE, "event_time": stamp(time_ms), "heat": 7.0}
        world.till.send([(world.shop.readings, 1, time_ms, json.dumps(event).encode())])
        until(lambda: bool(erasure_world.keys_with(world, GONE)), "the new event of the subject has a row")


def world_store(world: World) -> Any:
    import redis

    return redis.Redis.from_url(world.settings.redis_url)


def assert_nothing_left(world: World) -> None:
    ids = [erasure_world.ride(GONE, number) for number in range(REQUESTS)]
    assert erasure_world.files_with(Path(world.settings.archive_root), GONE, *ids) == []
    assert erasure_world.keys_with(world, GONE) == []
    assert letters_with(world, GONE) == 0


def assert_recorded(world: World) -> None:
    """The ledger has what was found, by whom and why, and not the value."""
    entries = [entry for entry in ledger.read(world.settings) if entry.kind == "erasure"]
    (known,) = erasures.read(world.settings)
    own = [entry for entry in entries if entry.request_id == known.erasure_id]
    assert [entry.entry_id.rpartition("/")[2] for entry in own] == ["begun", "done"]
    assert {entry.actor for entry in own} == {"ada"}
    assert own[0].evidence["found"]["archive: predictions"] == REQUESTS
    assert own[0].evidence["digest"] == known.digest.hex()
    assert known.complete
    for topic in (topics.LEDGER.name, topics.ERASURES.name):
        assert not any(GONE.encode() in record.value for record in read_topic(world.settings.broker, topic))


def test_groups_that_never_were_have_neither_members_nor_offsets(
    settings: Settings, unique_name: str
) -> None:
    with kafka_holdings.connected(settings) as holdings:
        assert not holdings.has_members(unique_name)
        assert holdings.committed(unique_name) == {}
        assert holdings.partitions(unique_name) == []
        assert list(holdings.records(unique_name, {})) == []
        assert holdings.retentions([unique_name]) == []


def test_what_cannot_be_done_gets_one_sentence(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
        (("boat", "x"), {}, "there is no entity 'boat' in the Feast repository; the entities are area, desk"),
        (("shop",), {}, "the entity 'shop' has no value"),
        (("desk", "left"), {}, "the value of desk must be an int64, 'left' is not"),
        (("shop", "zq-never"), {}, "nothing of this subject was found"),
        (("shop", GONE), {"reason": " "}, "the ledger needs to know why: give --reason"),
        (("shop", GONE), {"by": "nobody"}, "give --by NAME"),
    ]
    for words, options, text in cases:
        with pytest.raises(SystemExit, match=text) as raised:
            command.erase(*words, **{"reason": "r", "by": "ada", **options})
        assert raised.value.code != 0
    log = (broken := tmp_path / "broken") / "events" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("garbage", encoding="utf-8")
    for variable, value, text in (
        ("DRIFTLINE_REDIS_URL", "redis://127.0.0.1:1/0", "the online store cannot be reached"),
        ("DRIFTLINE_BROKER", "127.0.0.1:1", "driftline erase: Kafka"),
        ("DRIFTLINE_ARCHIVE_URI", str(broken), "the archive table .* cannot be read"),
    ):
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            with pytest.raises(SystemExit, match=text):
                erase()
    assert "Traceback" not in capsys.readouterr().err
