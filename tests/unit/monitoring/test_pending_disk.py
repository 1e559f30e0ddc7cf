"""Generations on disk: what was committed stays, and the last commit can be undone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.monitoring.pending_disk import GenerationLostError, PendingDisk
from streams.outages import OutageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "model"


@pytest.fixture
def disk(folder: Path) -> Iterator[PendingDisk]:
    opened = PendingDisk(folder, "a", 0)
    for number in range(3):
        opened.append(f"p{number}", number * 10, b"%d" % number)
    opened.commit()
    yield opened
    opened.close()


def reopened(disk: PendingDisk, folder: Path, generation: int, store: str = "a") -> PendingDisk:
    disk.close()
    return PendingDisk(folder, store, generation)


def value_of(disk: PendingDisk, identity: str) -> bytes | None:
    found = disk.get(identity)
    return None if found is None else found.value


def pop(disk: PendingDisk, identity: str) -> None:
    found = disk.get(identity)
    assert found is not None
    disk.remove(found)


def replace(disk: PendingDisk, identity: str, value: bytes) -> None:
    found = disk.get(identity)
    assert found is not None
    disk.replace(found, value)


def everything(disk: PendingDisk) -> list[bytes]:
    return list(disk.take_before(2**62))


def test_committed_entries_are_there_again_in_order(disk: PendingDisk, folder: Path) -> None:
    again = reopened(disk, folder, 1)
    assert (again.count, value_of(again, "p1"), again.get("p7")) == (3, b"1", None)
    assert everything(again) == [b"0", b"1", b"2"]
    assert again.count == 0
    again.close()


def test_changes_after_the_commit_are_lost_with_the_process(disk: PendingDisk, folder: Path) -> None:
    pop(disk, "p0")
    replace(disk, "p1", b"changed")
    disk.append("p3", 30, b"3")
    again = reopened(disk, folder, 1)
    assert everything(again) == [b"0", b"1", b"2"]
    again.close()


def test_a_commit_that_no_snapshot_followed_is_undone(disk: PendingDisk, folder: Path) -> None:
    pop(disk, "p0")
    replace(disk, "p1", b"changed")
    assert list(disk.take_before(15)) == [b"changed"]
    disk.append("p3", 30, b"3")
    assert disk.commit() == 2
    again = reopened(disk, folder, 1)
    assert again.count == 3
    assert everything(again) == [b"0", b"1", b"2"]
    again.close()


def test_the_undone_generation_can_be_committed_again(disk: PendingDisk, folder: Path) -> None:
    disk.append("p3", 30, b"3")
    disk.commit()
    again = reopened(disk, folder, 1)
    again.append("p4", 40, b"4")
    assert again.commit() == 2
    last = reopened(again, folder, 2)
    assert everything(last) == [b"0", b"1", b"2", b"4"]
    last.close()


def test_undoing_removes_only_what_the_last_commit_appended(disk: PendingDisk, folder: Path) -> None:
    again = reopened(disk, folder, 1)
    again.append("p3", 30, b"3")
    again.commit()
    last = reopened(again, folder, 1)
    assert (last.count, everything(last)) == (3, [b"0", b"1", b"2"])
    last.close()


@pytest.mark.parametrize(("generation", "store"), [(2, "a"), (1, "b"), (5, "a")])
def test_another_generation_or_store_is_refused(
    disk: PendingDisk, folder: Path, generation: int, store: str
) -> None:
    disk.close()
    with pytest.raises(GenerationLostError, match=f"generation 1 of store 'a'.*generation {generation} of"):
        PendingDisk(folder, store, generation)


def test_two_commits_ahead_is_refused(disk: PendingDisk, folder: Path) -> None:
    for identity in ("p0", "p1"):
        pop(disk, identity)
        disk.commit()
    disk.close()
    with pytest.raises(GenerationLostError, match="holds generation 3"):
        PendingDisk(folder, "a", 1)


def test_generation_0_begins_empty(disk: PendingDisk, folder: Path) -> None:
    again = reopened(disk, folder, 0, "b")
    assert (again.count, everything(again)) == (0, [])
    again.close()


def test_an_empty_folder_has_no_generation(tmp_path: Path) -> None:
    with pytest.raises(GenerationLostError, match="of store 'none'"):
        PendingDisk(tmp_path / "new", "a", 4)


def test_times_before_1970_sort_before_later_ones(folder: Path) -> None:
    disk = PendingDisk(folder, "a", 0)
    for time_ms in (-(2**62), -5, 0, 7):
        disk.append(str(time_ms), time_ms, str(time_ms).encode())
    disk.commit()
    assert list(disk.take_before(0)) == [str(-(2**62)).encode(), b"-5"]
    assert list(disk.take_before(8)) == [b"0", b"7"]
    disk.close()


def test_without_a_change_the_generation_stays(disk: PendingDisk) -> None:
    assert (value_of(disk, "p0"), disk.commit()) == (b"0", 1)


def test_a_store_without_entries_makes_no_files(folder: Path) -> None:
    disk = PendingDisk(folder, "a", 0)
    assert (disk.get("p0"), everything(disk), disk.commit()) == (None, [], 0)
    assert not folder.parent.exists()


def test_a_second_process_is_told_who_may_use_the_folder(disk: PendingDisk, folder: Path) -> None:
    with pytest.raises(OutageError, match="only one process may use it"):
        PendingDisk(folder, "a", 1)


def test_one_id_may_wait_again(disk: PendingDisk, folder: Path) -> None:
    pop(disk, "p0")
    disk.append("p0", 40, b"again")
    disk.commit()
    again = reopened(disk, folder, 1)
    assert value_of(again, "p0") == b"0"
    assert everything(again) == [b"0", b"1", b"2"]
    again.close()
