"""Writers of the ledger: one chain whoever is faster, and each entry once."""

import getpass
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from kafka import TopicPartition

from services.model_registry import ledger
from services.model_registry.ledger import ATTEMPTS_MAX, PARTITION, Ledger, LedgerError
from services.model_registry.ledger_chain import EntryDraft
from streams import topics
from streams.records import LedgerEntry


class Message(NamedTuple):
    offset: int
    value: bytes | None


class MemoryTopic:
    """The ledger topic in memory; ``before_write`` holds what others write before each of our writes."""

    def __init__(self) -> None:
        self.log: list[bytes | None] = []
        self.before_write: list[EntryDraft] = []

    def client(self) -> Ledger:
        return Ledger(MemoryConsumer(self.log), self.send)

    def send(self, key: bytes, value: bytes) -> None:
        assert key == b"m"
        if self.before_write:
            draft = self.before_write.pop(0)
            self.log.append(self.client().chain.sealed(draft))
        self.log.append(value)


class MemoryConsumer:
    """A consumer of that topic."""

    def __init__(self, log: list[bytes | None]) -> None:
        self.log = log
        self.at = 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == [PARTITION]

    def seek_to_beginning(self, _: TopicPartition) -> None:
        self.at = 0

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, len(self.log))

    def position(self, _: TopicPartition) -> int:
        return self.at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Message]]:
        del timeout_ms
        found = [Message(offset, value) for offset, value in enumerate(self.log)][self.at :]
        self.at = len(self.log)
        return {PARTITION: found}


def draft(request_id: str, evidence: str = "") -> EntryDraft:
    return EntryDraft(
        kind="trigger", model="m", evidence={"text": evidence}, actor="a", at_ms=1, request_id=request_id
    )


@pytest.fixture
def topic() -> MemoryTopic:
    return MemoryTopic()


def requests(topic: MemoryTopic) -> list[str]:
    return [entry.request_id for entry in topic.client().entries]


def test_appended_entries_are_in_the_chain(topic: MemoryTopic) -> None:
    client = topic.client()
    assert [client.append(draft(name)).number for name in "abc"] == [1, 2, 3]
    assert requests(topic) == ["a", "b", "c"]


def test_entry_is_written_once(topic: MemoryTopic) -> None:
    """A repeat after a crash, also by another process, finds what was written first."""
    first = topic.client().append(draft("a", "first"))
    assert topic.client().append(draft("a", "second")) == first
    assert len(topic.log) == 1


def test_overtaken_writer_writes_again(topic: MemoryTopic) -> None:
    topic.before_write = [draft("theirs"), draft("theirs too")]
    assert topic.client().append(draft("ours")).number == 3
    assert requests(topic) == ["theirs", "theirs too", "ours"]
    assert topic.client().chain.overtaken == 2
    assert topic.client().chain.faults == []


def test_same_entry_of_a_faster_process_counts(topic: MemoryTopic) -> None:
    topic.before_write = [draft("same", "theirs")]
    assert topic.client().append(draft("same", "ours")).evidence == {"text": "theirs"}
    assert requests(topic) == ["same"]


def test_decision_is_made_again_on_what_others_wrote(topic: MemoryTopic) -> None:
    topic.before_write = [draft("rejected")]

    def approve(entries: Sequence[LedgerEntry]) -> EntryDraft:
        if any(entry.request_id == "rejected" for entry in entries):
            raise LookupError
        return draft("approved")

    with pytest.raises(LookupError):
        topic.client().decide(approve)
    assert requests(topic) == ["rejected"]


def test_writer_that_is_always_overtaken_gives_up(topic: MemoryTopic) -> None:
    topic.before_write = [draft(f"theirs {number}") for number in range(ATTEMPTS_MAX)]
    with pytest.raises(LedgerError, match=f"other writers were faster {ATTEMPTS_MAX} times"):
        topic.client().append(draft("ours"))


def test_entry_that_is_too_large_is_not_written(topic: MemoryTopic) -> None:
    with pytest.raises(LedgerError, match="give digests of the evidence"):
        topic.client().append(draft("a", "x" * topics.LEDGER.bytes_min))
    assert topic.log == []


def test_ledger_with_a_fault_is_still_written(topic: MemoryTopic) -> None:
    topic.client().append(draft("a"))
    topic.log.append(b"no entry")
    topic.client().append(draft("b"))
    assert requests(topic) == ["a", "b"]


def test_operator_is_the_one_given_or_the_user_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ledger.operator(" ada ") == "ada"
    monkeypatch.setattr(getpass, "getuser", lambda: "bob")
    assert ledger.operator(None) == "bob"


@pytest.mark.parametrize("by", ["", "  ", "Nobody"])
def test_nobody_cannot_act(by: str) -> None:
    with pytest.raises(LedgerError, match="give --by NAME"):
        ledger.operator(by)


def test_user_without_a_name_must_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def getuser() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", getuser)
    with pytest.raises(LedgerError, match="give --by NAME"):
        ledger.operator(None)


def test_each_command_has_an_id_of_its_own() -> None:
    assert ledger.command_id() != ledger.command_id()
