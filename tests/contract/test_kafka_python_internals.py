"""What Driftline relies on beyond kafka-python's documented interface.

If one of these fails after kafka-python is upgraded, `streams.kafka_python_internals` needs another way.
"""

import inspect
import math
from collections.abc import Mapping

import pytest
from kafka.consumer import fetcher
from kafka.coordinator import base as coordinator
from kafka.coordinator.heartbeat import Heartbeat
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch

from services.operations import import_map
from streams.header_names import MendsHeaderNames

PATCHES = {
    "aiokafka": ("AIOKafkaConsumer(", "streams.aiokafka_internals"),
    "kafka-python": (" KafkaConsumer(", "services.runtime.kafka_consumers"),
}
"""How a consumer is made, and the module that lets it read any header name."""
EXCEPTIONS = {
    "services.features.offline.skew_run",  # its consumer reads no record
    "services.features.partition_reader",  # its callers import the batch engine
    "services.operations.dead_letters.topic_reader",  # it reads what Driftline writes
}


def test_consumers_take_the_class_of_batches_from_the_module_of_records() -> None:
    assert fetcher.MemoryRecords is memory_records.MemoryRecords
    assert "return DefaultRecordBatch(next_slice)" in inspect.getsource(
        memory_records.MemoryRecords.next_batch
    )


def test_a_batch_keeps_its_position_at_a_record_that_it_cannot_read() -> None:
    source = inspect.getsource(DefaultRecordBatch._read_msg)
    assert source.count("self._pos") == 2
    assert source.index("self._pos = pos") > source.index('.decode("utf-8")')
    assert issubclass(memory_records.DefaultRecordBatch, MendsHeaderNames)


@pytest.mark.parametrize("client", PATCHES)
def test_every_module_that_makes_a_consumer_lets_it_read_any_header_name(client: str) -> None:
    call, patch = PATCHES[client]
    imports: dict[str, set[str]] = {}
    for each in import_map.imports():
        imports.setdefault(each.importer, set()).add(each.imported)
    makers = {name for name, path in import_map.modules().items() if call in path.read_text(encoding="utf-8")}
    assert makers
    without = {name for name in makers - {patch, *EXCEPTIONS} if patch not in reached(name, imports)}
    assert not without


def reached(module: str, imports: Mapping[str, set[str]]) -> set[str]:
    found, waiting = set[str](), [module]
    while waiting:
        new = imports.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def test_a_member_can_ask_for_another_assignment() -> None:
    source = inspect.getsource(coordinator.BaseCoordinator.request_rejoin)
    assert "self.rejoin_needed = True" in source
    assert "rejoin_needed" in inspect.getsource(coordinator.BaseCoordinator.need_rejoin)


def test_a_member_that_is_not_known_when_it_joins_gets_another_name() -> None:
    """kafka-python tells nobody that its partitions were lost: `kafka_python_internals.member` shows it."""
    source = inspect.getsource(coordinator.BaseCoordinator._process_join_group_response)
    unknown = source[source.index("UnknownMemberIdError") :]
    assert "self.reset_generation()" in unknown
    assert "_invoke_rebalance_listener" not in source
    assert coordinator.Generation(1, "name", "range").member_id == "name"


def test_an_agreement_that_is_reached_between_two_polls_is_discarded() -> None:
    """So a member polls for longer than the group needs to agree: `model_ownership.POLL_MS`."""
    source = inspect.getsource(coordinator.BaseCoordinator.join_group_async)
    assert "if self._join_task is None or self._join_task.is_done:" in source


def test_a_member_that_does_not_poll_leaves_its_group() -> None:
    """So `kafka_python_internals.hangs` asks the same; before the first poll there is nothing to leave."""
    source = inspect.getsource(coordinator.BaseCoordinator._heartbeat_loop)
    assert "elif self.heartbeat.poll_timeout_expired():" in source
    assert Heartbeat().last_poll == -math.inf
