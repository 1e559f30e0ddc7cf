"""Laws of the ledger: one chain for every interleaving of writers, and no change stays unseen."""

from hypothesis import given
from hypothesis import strategies as st

from services.model_registry.ledger_chain import Chain, EntryDraft

STEPS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60)
"""Which of four writers does its next step, and whether it crashes after it."""


class Writer:
    """A writer that reads, writes, and reads again, in steps that others may come between."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.done = 0
        self.restart()

    def restart(self) -> None:
        self.chain, self.position, self.has_read = Chain(), 0, False

    def step(self, log: list[bytes]) -> None:
        """Read if it has not; else write what is missing, on top of what it has read."""
        if self.has_read:
            log.append(self.chain.sealed(self.draft))
        for offset in range(self.position, len(log)):
            self.chain.add(offset, log[offset])
        self.position = len(log)
        self.has_read = True
        while self.chain.find(self.draft.entry_id):
            self.done += 1

    @property
    def draft(self) -> EntryDraft:
        return EntryDraft(
            kind="gate",
            model="m",
            evidence={"writer": self.name},
            actor="a",
            at_ms=0,
            request_id=f"{self.name}-{self.done}",
        )


def stale_log(steps: list[tuple[int, bool]]) -> tuple[list[bytes], list[Writer]]:
    """Return what writers write, each based on what it read at its step before."""
    writers = [Writer(number) for number in range(4)]
    log: list[bytes] = []
    for number, crashes in steps:
        writers[number].step(log)
        if crashes:
            writers[number].restart()
    return log, writers


def chain_of(log: list[bytes]) -> Chain:
    chain = Chain()
    for offset, value in enumerate(log):
        chain.add(offset, value)
    return chain


@given(STEPS)
def test_any_interleaving_of_writers_gives_one_chain(steps: list[tuple[int, bool]]) -> None:
    log, writers = stale_log(steps)
    chain = chain_of(log)
    ids = [entry.request_id for entry in chain.entries]
    assert chain.faults == []
    assert len(set(ids)) == len(ids)
    assert [entry.number for entry in chain.entries] == list(range(1, len(ids) + 1))
    assert len(chain.entries) + chain.overtaken == len(log)
    for writer in writers:
        own = [name for name in ids if name.startswith(f"{writer.name}-")]
        assert own[: writer.done] == [f"{writer.name}-{done}" for done in range(writer.done)]


@given(STEPS, st.data())
def test_changed_byte_is_found(steps: list[tuple[int, bool]], data: st.DataObject) -> None:
    log, _ = stale_log(steps)
    if not log:
        return
    offset = data.draw(st.integers(0, len(log) - 1))
    place = data.draw(st.integers(0, len(log[offset]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != log[offset][place]))
    log[offset] = log[offset][:place] + bytes([byte]) + log[offset][place + 1 :]
    assert chain_of(log).faults[0].offset == offset


@given(STEPS, st.data())
def test_removed_entry_is_found_where_it_is_missing(
    steps: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """Of the last entry, only its hash that was noted elsewhere tells."""
    log, _ = stale_log(steps)
    offsets = [offset for offset in range(len(log)) if is_entry(log, offset)]
    if len(offsets) < 2:
        return
    place = data.draw(st.integers(0, len(offsets) - 2))
    removed = chain_of(log).entries[place]
    del log[offsets[place]]
    faults = chain_of(log).faults
    assert faults
    assert f"entry {removed.number} was expected" in faults[0].text or faults[0].offset > offsets[place]


@given(STEPS, st.data())
def test_entries_in_another_order_are_found(steps: list[tuple[int, bool]], data: st.DataObject) -> None:
    log, _ = stale_log(steps)
    offsets = [offset for offset in range(len(log)) if is_entry(log, offset)]
    if len(offsets) < 2:
        return
    first, second = sorted(data.draw(st.permutations(offsets))[:2])
    log[first], log[second] = log[second], log[first]
    assert first <= chain_of(log).faults[0].offset


def is_entry(log: list[bytes], offset: int) -> bool:
    return len(chain_of(log[: offset + 1]).entries) > len(chain_of(log[:offset]).entries)
