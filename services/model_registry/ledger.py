"""The reader and the one writer of the ledger topic, for every process and command that decides something.

An append reads to the end of the topic, writes, and reads to the end again. If another writer was faster, the
entry is not in the chain (`services.model_registry.ledger_chain`), and is written again after the others'.

An entry is identified by request, kind and step. An append whose entry is in the chain already writes
nothing. So a process that crashes between two entries repeats all of them, and each is there once. Write
entries *before* the record that ends a request, such as ``RetrainingFinished``: otherwise nobody repeats
them.
"""

import contextlib
import getpass
import uuid
from collections.abc import Callable, Iterator, Sequence

from kafka import KafkaConsumer, TopicPartition

from services.model_registry.ledger_chain import Chain, EntryDraft
from services.runtime import kafka_consumers, kafka_producers
from services.runtime.settings import Settings
from streams import topics
from streams.records import LedgerEntry

PARTITION = TopicPartition(topics.LEDGER.name, 0)
ATTEMPTS_MAX = 200
"""Maximum attempts to write an entry. Each one that fails is an entry of another writer."""
NOBODY = ("", "nobody")
UNKNOWN = "unknown"
"""The actor of an act that is recorded later than it happened, by somebody else."""

Send = Callable[[bytes, bytes], None]
"""Writes key and value to `PARTITION`; returns when all in-sync replicas have acknowledged."""
MakeDraft = Callable[[Sequence[LedgerEntry]], EntryDraft]
"""Returns the entry that follows from those so far; raises if none may follow."""


class LedgerError(RuntimeError):
    """An entry cannot be written. The message says why and what to do."""


class Ledger:
    """One client of the ledger topic."""

    def __init__(self, consumer: KafkaConsumer, send: Send) -> None:
        """Read the topic to its end; the consumer is used by this client alone."""
        self.chain = Chain()
        self._consumer = consumer
        self._send = send
        consumer.assign([PARTITION])
        consumer.seek_to_beginning(PARTITION)
        self.refresh()

    @property
    def entries(self) -> Sequence[LedgerEntry]:
        """The entries of the chain, as far as it was read."""
        return self.chain.entries

    def refresh(self) -> None:
        """Read what was written since the last read."""
        for message in kafka_consumers.read_to_end(self._consumer, [PARTITION]):
            self.chain.add(message.offset, message.value)

    def append(self, draft: EntryDraft) -> LedgerEntry:
        """Write an entry, unless it is in the chain; return the one that is there. Raises as `decide`."""
        return self.decide(lambda _: draft)

    def decide(self, make: MakeDraft) -> LedgerEntry:
        """Write the entry that follows from all entries before it, and return it.

        Args:
            make: Called again after each attempt in which another writer was faster. An error of it ends
                the attempts: nothing was added to the chain.

        Raises:
            LedgerError: The entry is too large, or other writers were faster `ATTEMPTS_MAX` times.
            KafkaError: The broker cannot be reached. The entry may have been written: append it again.
        """
        for _ in range(ATTEMPTS_MAX):
            self.refresh()
            draft = make(self.entries)
            if found := self.chain.find(draft.entry_id):
                return found
            record = self.chain.sealed(draft)
            if len(record) > topics.LEDGER.bytes_min:
                raise LedgerError(
                    f"the entry {draft.entry_id} has {len(record)} bytes, and the ledger holds up to "
                    f"{topics.LEDGER.bytes_min}: give digests of the evidence and keep the rest in MLflow"
                )
            self._send(draft.model.encode(), record)
            self.refresh()
            if found := self.chain.find(draft.entry_id):
                return found
        raise LedgerError(
            f"{topics.LEDGER.name}: other writers were faster {ATTEMPTS_MAX} times: try again, and run "
            "'driftline ledger verify' if it fails again"
        )


@contextlib.contextmanager
def opened(settings: Settings, source: str = "operator") -> Iterator[Ledger]:
    """Connect for the length of the block, and read the topic to its end.

    Args:
        settings: The broker.
        source: Who reads and writes, as the broker logs it.

    Raises:
        MissingTopicError: There is no such topic.
        KafkaError: The broker cannot be reached.
    """
    with contextlib.ExitStack() as stack:
        consumer = kafka_consumers.connect(settings, f"{source}-ledger")
        stack.callback(consumer.close, timeout_ms=kafka_consumers.CLOSE_MS)
        kafka_consumers.partition_count(consumer, PARTITION.topic)

        def send(key: bytes, value: bytes) -> None:
            with kafka_producers.connected(settings) as producer:
                producer.send(PARTITION.topic, key, value)

        yield Ledger(consumer, send)


def read(settings: Settings) -> list[LedgerEntry]:
    """Return the entries of the chain; raises as `opened`."""
    with opened(settings) as ledger:
        return list(ledger.entries)


def append(settings: Settings, drafts: Sequence[EntryDraft], source: str = "operator") -> list[LedgerEntry]:
    """Write entries in their order, each once; return those in the chain. Raises as `opened` and `decide`."""
    if not drafts:
        return []
    with opened(settings, source) as ledger:
        return [ledger.append(draft) for draft in drafts]


def operator(by: str | None) -> str:
    """Return the name of the person who acts: the one given, or else that of the OS user.

    Raises:
        LedgerError: Nobody is named.
    """
    if by is None:
        try:
            by = getpass.getuser()
        except (KeyError, OSError):  # a container whose user id has no name
            by = ""
    if by.strip().lower() in NOBODY:
        raise LedgerError("the ledger needs the name of the person who acts: give --by NAME")
    return by.strip()


def command_id() -> str:
    """Return the request id of a command that was run by hand."""
    return f"by-hand-{uuid.uuid4().hex[:16]}"
