"""The follower applies every change of the models topic, the latest one of each model at the start."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from services.runtime import supervised_task
from services.scoring.models_follower import ModelsFollower
from streams import records
from streams.records import Arm, ModelChanged
from tests.unit.scoring.fakes import sample, settle
from tests.waiting import LIVENESS_SECONDS


def change(model, version):
    champion = Arm(name="champion", version=version, weight=10_000)
    return ModelChanged(model=model, arms=[champion], changed_at_ms=0, reason=f"version {version}")


class Topic:
    """The models topic; its consumers read what was written to it."""

    def __init__(self, *values):
        self.values = []
        self.errors = []
        """Raised by the next fetches."""
        self.options = []
        self._written = asyncio.Event()
        self.write(*values)

    def write(self, *values):
        for value in values:
            encoded = records.encode(value) if isinstance(value, msgspec.Struct) else value
            self.values.append(SimpleNamespace(offset=len(self.values), value=encoded))
        self._written.set()

    def consumer(self, **options):
        self.options.append(options)
        return Consumer(self, self._written)


class Consumer:
    """The part of an AIOKafkaConsumer that the follower uses."""

    def __init__(self, topic, written):
        self._topic, self._written, self._position = topic, written, 0

    async def start(self):
        pass

    async def stop(self):
        pass

    def assign(self, partitions):
        pass

    def seek(self, partition, offset):
        self._position = offset

    async def end_offsets(self, partitions):
        return dict.fromkeys(partitions, len(self._topic.values))

    async def position(self, _partition):
        return self._position

    async def getmany(self, partition, timeout_ms):
        if self._topic.errors:
            raise self._topic.errors.pop()
        while self._position == len(self._topic.values):
            self._written.clear()
            await self._written.wait()
        found = self._topic.values[self._position :]
        self._position = len(self._topic.values)
        return {partition: found}


class Versions:
    """Keeps the changes of one model; is settled after each of them."""

    def __init__(self, name):
        self.name = name
        self.changes = []

    def change(self, change, *, lazily=False):
        self.changes.append((change.arms[0].version, lazily))

    async def settled(self):
        pass


def follow(scenario, *values):
    """Run ``await scenario(follower, topic, versions)`` with a follower of these values."""

    async def run():
        topic = Topic(*values)
        versions: Any = Versions("m")
        follower = ModelsFollower({}, topic.consumer)
        follower.add(versions)
        async with asyncio.timeout(LIVENESS_SECONDS), follower.running():
            await scenario(follower, topic, versions)
        return versions.changes

    return asyncio.run(run())


def test_at_the_start_only_the_latest_change_is_applied_before_its_version_is_loaded():
    async def scenario(follower, topic, versions):
        pass

    assert follow(scenario, change("m", 1), change("other", 5), change("m", 2)) == [(2, True)]


def test_later_changes_are_applied_one_by_one_after_their_versions_are_loaded():
    async def scenario(follower, topic, versions):
        topic.write(change("m", 3), change("other", 6), change("m", 4))
        await follower.catch_up("m")

    assert follow(scenario, change("m", 1)) == [(1, True), (3, False), (4, False)]


def test_a_model_that_is_added_later_gets_its_latest_change_at_once():
    async def scenario(follower, topic, versions):
        late: Any = Versions("late")
        follower.add(late)
        assert late.changes == [(7, True)]

    follow(scenario, change("late", 7), change("m", 1))


def test_a_removed_model_gets_no_further_change():
    async def scenario(follower, topic, versions):
        follower.remove("m")
        topic.write(change("m", 2))
        await settle()

    assert follow(scenario, change("m", 1)) == [(1, True)]


def test_records_that_are_no_change_are_logged_counted_and_skipped():
    nested = b'{"x":' * 2000 + b"1" + b"}" * 2000

    async def scenario(follower, topic, versions):
        topic.write(b"{", None, nested, change("m", 2))
        await follower.catch_up("m")

    before = sample("driftline_model_changes_invalid_total")
    with capture_logs() as logs:
        assert follow(scenario, change("m", 1)) == [(1, True), (2, False)]
    assert [(each["event"], each["offset"]) for each in logs if "invalid" in each["event"]] == [
        ("model_change.invalid", 1),
        ("model_change.invalid", 3),
    ]
    assert sample("driftline_model_changes_invalid_total") == before + 2


@pytest.mark.parametrize("error", [KafkaError(), RecursionError()])
def test_after_any_error_it_connects_again_and_continues_where_it_was(monkeypatch, error):
    monkeypatch.setattr(supervised_task, "RESTART_SECONDS", 0.0)

    async def scenario(follower, topic, versions):
        assert follower.failure is None
        topic.errors.append(error)
        topic.write(change("m", 2))
        await follower.catch_up("m")
        topic.write(change("m", 3))
        await follower.catch_up("m")
        assert repr(error) in str(follower.failure)

    with capture_logs():
        assert follow(scenario, change("m", 1)) == [(1, True), (2, False), (3, False)]


def test_it_reads_committed_records_and_begins_anew_where_its_position_is_gone():
    async def scenario(follower, topic, versions):
        for options in topic.options:
            assert options["isolation_level"] == "read_committed"
            assert options["auto_offset_reset"] == "earliest"
            assert options["enable_auto_commit"] is False

    follow(scenario, change("m", 1))
