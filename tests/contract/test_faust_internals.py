"""What Driftline relies on beyond Faust's documented interface: names, signatures, behaviour.

If one of these fails after Faust is upgraded, `streams.faust_internals` needs another way. What an app does
on a real broker is in tests/flow/test_batches.py.
"""

import asyncio
import dataclasses
import importlib.metadata
import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from faust.topics import Topic
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import ServiceThread
from yarl import URL

from streams.batches import Lanes
from streams.committed_offsets import text_of
from streams.faust_internals import BatchApp, BatchConsumer, BatchTopic, BatchTransport, InLoopConsumer
from streams.slices import Slice, SliceObserver

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
URLS = [URL("kafka://127.0.0.1:1")]


def app_of() -> Any:
    app = BatchApp("contract", broker=URLS, store="memory://", autodiscover=False, web_enabled=False)
    app.lanes = Lanes(1 << 20, 100, SliceObserver())
    app.transport = BatchTransport(URLS, app, loop=None)
    return app


def consumer_of(app: Any) -> Any:
    async def nothing(*_: Any) -> None:
        """Stand in for what Faust's conductor does with messages and rebalances."""

    return app.transport.create_consumer(
        nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing
    )


def in_loop(scenario: Callable[[Any], Any]) -> Any:
    """Run with a consumer that is not connected."""

    async def run() -> Any:
        result = scenario(consumer_of(app_of()))
        return await result if inspect.isawaitable(result) else result

    return asyncio.run(run())


def test_exactly_the_release_is_installed_that_pyproject_pins() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert f"faust-streaming=={importlib.metadata.version('faust-streaming')}" in dependencies


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (
            BatchConsumer,
            driver.Consumer,
            (
                "_drain_messages",
                "_filter_tps_with_pending_acks",
                "_new_consumer_thread",
                "_new_offset",
                "ack",
                "on_partitions_assigned",
                "on_partitions_revoked",
                "on_stop",
                "verify_event_path",
            ),
        ),
        (
            InLoopConsumer,
            driver.AIOKafkaConsumerThread,
            (
                "_create_worker_consumer",
                "_gather_remaining_tasks",
                "call_thread",
                "highwater",
                "seek_to_committed",
                "start",
            ),
        ),
        (BatchTopic, Topic, ("decode",)),
        (BatchApp, faust.App, ("_create_directories",)),
    ],
)
def test_what_is_overridden_exists_with_the_same_parameters(
    ours: type, theirs: type, names: tuple[str, ...]
) -> None:
    for name in names:
        expected = list(inspect.signature(getattr(theirs, name)).parameters)
        assert list(inspect.signature(getattr(ours, name)).parameters) == expected, name
        is_async = inspect.iscoroutinefunction(getattr(theirs, name))
        assert inspect.iscoroutinefunction(getattr(ours, name)) == is_async, name
    unnamed = set(vars(ours)) & set(dir(theirs)) - set(names)
    own = {"__module__", "__doc__", "__init__", "__annotations__", "__abstractmethods__", "_abc_impl"}
    assert {name for name in unnamed - own if callable(getattr(ours, name))} <= {"logger"}


@pytest.mark.parametrize(
    "name",
    [
        "_buffered_partitions",
        "_committed_offset",
        "_get_active_partitions",
        "_getmany",
        "_read_offset",
        "_stopped",
        "_unacked_messages",
        "callback",
        "can_resume_flow",
        "flow_active",
        "on_buffer_drop",
        "on_buffer_full",
        "should_stop",
        "stop_flow",
        "suspend_flow",
        "wait_first",
    ],
)
def test_what_is_used_of_the_consumer_is_there(name: str) -> None:
    assert in_loop(lambda consumer: hasattr(consumer, name))


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (base.ThreadDelegateConsumer._getmany, ["self", "active_partitions", "timeout"]),
        (base.Consumer.on_buffer_full, ["self", "tp"]),
        (base.Consumer.on_buffer_drop, ["self", "tp"]),
        (base.Consumer.commit, ["self", "topics", "start_new_transaction"]),
        (ServiceThread._serve, ["self"]),
        (driver.AIOKafkaConsumerThread.seek, ["self", "partition", "offset"]),
    ],
)
def test_what_is_called_takes_the_same_parameters(function: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_a_partition_that_is_held_back_is_not_active() -> None:
    def scenario(consumer: Any) -> tuple[set[TP], set[TP], set[TP]]:
        consumer._active_partitions = {TP("t", 0), TP("t", 1)}
        consumer.on_buffer_full(TP("t", 0))
        held_back, active = set(consumer._buffered_partitions), set(consumer._get_active_partitions())
        consumer.on_buffer_drop(TP("t", 0))
        return held_back, active, set(consumer._get_active_partitions())

    held_back, active, after = in_loop(scenario)
    assert held_back == {TP("t", 0)}
    assert active == {TP("t", 1)}
    assert after == {TP("t", 0), TP("t", 1)}


def test_records_of_aborted_transactions_are_not_read() -> None:
    """Faust reads them unless the app is an exactly-once app, which commits in transactions."""

    async def scenario(consumer: Any) -> tuple[str, bool]:
        thread = consumer._new_consumer_thread()
        client = thread._create_consumer(loop=asyncio.get_running_loop())
        return client._isolation_level, consumer.in_transaction

    assert in_loop(scenario) == ("read_committed", False)


def test_the_id_of_a_topic_is_committed_with_its_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    committed: list[Any] = []

    async def commit(_client: AIOKafkaConsumer, offsets: Any) -> None:
        committed.append(offsets)

    async def scenario(consumer: Any) -> None:
        consumer.app.watch = SimpleNamespace(ids={"t": "7f"})
        thread = consumer._new_consumer_thread()
        thread._consumer = thread._create_consumer(loop=asyncio.get_running_loop())
        thread.assignment = lambda: {TP("t", 0), TP("u", 0)}
        assert await thread._commit({TP("t", 0): 5, TP("u", 0): 6})

    monkeypatch.setattr(AIOKafkaConsumer, "commit", commit)
    in_loop(scenario)
    assert committed == [{("t", 0): (5, text_of("7f")), ("u", 0): (6, "")}]


def test_the_offset_of_a_former_topic_counts_as_none_that_was_committed() -> None:
    """Else offsets below it would not be committed, and a view would seem to have reached it."""

    async def scenario(consumer: Any) -> tuple[dict[TP, int], bool]:
        async def seek_to_committed() -> dict[TP, int]:
            return {TP("t", 0): 0}

        consumer.seek_to_committed = seek_to_committed
        consumer.assignment = lambda: {TP("t", 0)}
        await consumer.perform_seek()
        return consumer.positions(), consumer._should_commit(TP("t", 0), 1)

    assert in_loop(scenario) == ({TP("t", 0): 0}, True)


def test_the_end_of_a_partition_is_that_of_committed_transactions() -> None:
    async def scenario(consumer: Any) -> int:
        thread = consumer._thread
        thread._consumer = type("Client", (), {"last_stable_offset": lambda _self, tp: 7 + tp.partition})()
        return int(consumer.highwater(TP("t", 1)))

    assert in_loop(scenario) == 8


def test_the_flow_is_suspended_before_the_lanes_drain_and_they_open_with_the_next_assignment() -> None:
    """A message on its way would be handled although the slices before it are dropped."""
    steps: list[tuple[str, bool]] = []

    async def scenario(consumer: Any) -> None:
        app = consumer.app
        app.flow_control.resume()
        consumer._commit_offsets = nothing_committed

        async def handle(slice_: Slice) -> None:
            steps.append(("drained", app.flow_control.is_active()))
            slice_.ack()

        def put() -> bool:
            slice_ = Slice("t", 0, [_Record(offset=7)], caught_up=True)
            return bool(consumer.lanes.put(TP("t", 0), slice_, handle))

        async def let_go() -> None:
            steps.append(("let go", put()))

        app.callbacks = [let_go]
        assert put()
        revoking = asyncio.create_task(consumer.on_partitions_revoked({TP("t", 0)}))
        await revoking
        app.on_rebalance_return = lambda: None
        assert not put()
        await consumer.on_partitions_assigned({TP("t", 0)}, 2)
        assert put()
        await consumer.lanes.close(drain_seconds=0)

    async def nothing_committed(_offsets: dict[TP, int], **_: Any) -> bool:
        return True

    in_loop(scenario)
    assert ("let go", False) in steps
    assert ("drained", True) not in steps


def test_what_did_not_reach_its_lane_is_read_again() -> None:
    sought: list[tuple[TP, int]] = []

    async def scenario(consumer: Any) -> None:
        async def handle(slice_: Slice) -> None:
            slice_.ack()

        def deliver(topics: list[list[Slice]]) -> list[bool]:
            return [
                consumer.lanes.put(TP(each.topic, each.partition), each, handle)
                for slices in topics
                for each in slices
            ]

        consumer._thread.seek = lambda tp, offset: sought.append((tp, offset))
        consumer.highwater = lambda _tp: 100
        gone, kept = TP("t", 0), TP("t", 1)
        fetched = {gone: [_Record(5), _Record(6)], kept: [_Record(1)]}
        consumer._cutter.cut(fetched, consumer.highwater)  # and none of it is delivered
        (later,) = consumer._cutter.cut({gone: [_Record(7)]}, consumer.highwater)
        assert deliver([later]) == [False]
        assert consumer._without_gaps({gone: [_Record(8)], kept: []}) == {kept: []}
        assert sought == [(gone, 5)]
        again = consumer._cutter.cut({gone: [_Record(5), _Record(6), _Record(7)]}, consumer.highwater)
        assert deliver(again) == [True]
        assert consumer._without_gaps(fetched) is fetched
        await consumer.lanes.close(drain_seconds=0)

    in_loop(scenario)


def test_a_commit_commits_the_ends_of_acknowledged_slices_and_nothing_else() -> None:
    committed: list[dict[TP, int]] = []

    async def scenario(consumer: Any) -> None:
        async def commit(offsets: dict[TP, int], **_: Any) -> bool:
            committed.append(dict(offsets))
            return True

        consumer._commit_offsets = commit
        record = _Record(offset=7)
        done, unfinished = Slice("t", 0, [record], caught_up=True), Slice("t", 1, [record], caught_up=True)

        async def handle(slice_: Slice) -> None:
            if slice_.partition:
                await asyncio.Event().wait()
            slice_.ack()

        consumer.lanes.put(TP("t", 0), done, handle)
        consumer.lanes.put(TP("t", 1), unfinished, handle)
        await consumer.lanes.wait_for_release(30)
        assert await consumer.commit()
        await consumer.lanes.close(drain_seconds=0)

    in_loop(scenario)
    assert committed == [{TP("t", 0): 8}]


@dataclasses.dataclass
class _Record:
    offset: int
    serialized_key_size: int = 1
    serialized_value_size: int = 1


def test_the_consumer_works_in_the_loop_of_the_app() -> None:
    async def scenario(consumer: Any) -> tuple[bool, int]:
        thread = consumer._new_consumer_thread()
        assert thread.thread_loop is asyncio.get_running_loop()
        assert thread.parent_loop is asyncio.get_running_loop()

        async def work(number: int) -> int:
            return number + 1

        return await thread.call_thread(lambda: True), await thread.call_thread(work, 1)

    assert in_loop(scenario) == (True, 2)


def test_a_thread_that_starts_tells_of_it_as_the_consumer_in_the_loop_waits_for_it() -> None:
    """`InLoopConsumer.start` repeats `ServiceThread.start` without the thread: these are its parts."""
    source = inspect.getsource(ServiceThread.start)
    assert "self._thread_started.set()" in source
    assert "await self._thread_running" in source
    served = inspect.getsource(ServiceThread._serve)
    assert served.index("self._default_start()") < served.index("notify, self._thread_running")
    assert "await self.wait_until_stopped()" in served
    assert "await self._gather_remaining_tasks()" in served


def test_a_topic_wraps_a_list_of_slices_as_it_is() -> None:
    async def scenario() -> Any:
        topic = BatchTopic(app_of(), topics=["t"], value_type=bytes, value_serializer="raw")
        slices = [Slice("t", 0, [_Record(1)], caught_up=True)]
        message = type("Message", (), {"key": b"k", "value": slices, "headers": None})()
        event = await topic.decode(message)
        assert event.value is slices
        return event.key

    assert asyncio.run(scenario()) == b"k"
