"""What Driftline relies on beyond Faust's documented interface: names, signatures, behaviour.

If one of these fails after Faust is upgraded, `streams.faust_internals` needs another way. What an app does
on a real broker is in tests/flow/test_batches.py.
"""

import asyncio
import importlib.metadata
import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.topics import Topic
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import ServiceThread
from yarl import URL

from streams.batches import Lanes, Slice, SliceObserver
from streams.faust_internals import BatchApp, BatchConsumer, BatchTopic, BatchTransport, InLoopConsumer

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
                "on_partitions_revoked",
                "on_stop",
                "verify_event_path",
            ),
        ),
        (
            InLoopConsumer,
            driver.AIOKafkaConsumerThread,
            ("_gather_remaining_tasks", "call_thread", "start"),
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
        "perform_seek",
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


class _Record:
    serialized_key_size = serialized_value_size = 1

    def __init__(self, offset: int) -> None:
        self.offset = offset


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
