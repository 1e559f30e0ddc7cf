"""Which disk a snapshot gets, and where to read again without it."""

from pathlib import Path

import pytest
from kafka.errors import KafkaTimeoutError

from services.monitoring import pending_restore
from services.monitoring.label_join import JoinTotals, LabelJoin
from services.monitoring.pending_disk import GenerationLostError, PendingDisk
from services.monitoring.pending_rebuild import BEGINNING, PendingMark, PendingRebuild
from services.monitoring.prediction_source import direct_source
from services.runtime.settings import Settings
from streams.inputs import PREDICTION, PartitionKey
from tests.unit.drift.memory_kafka import MemoryConsumer


def test_each_model_of_a_service_has_a_folder_of_its_own(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path)
    folders = {
        pending_restore.folder_of(settings, service, model)
        for service in ("drift", "learning")
        for model in ("a", "b")
    }
    assert len(folders) == 4


def test_the_named_disk_is_opened(tmp_path: Path) -> None:
    disk = PendingDisk(tmp_path / "m", "a", 0)
    disk.append("p", 1, b"1")
    generation = disk.commit()
    disk.close()
    opened, lost_from = pending_restore.open_disk(tmp_path / "m", PendingMark("a", generation, [BEGINNING]))
    found = opened.get("p")
    assert found is not None
    assert (found.value, lost_from) == (b"1", None)
    opened.close()


def test_without_the_named_disk_the_first_point_is_where_to_read(tmp_path: Path) -> None:
    mark = PendingMark("a", 7, [BEGINNING])
    opened, lost_from = pending_restore.open_disk(tmp_path / "m", mark)
    assert (opened.count, lost_from, mark.generation) == (0, BEGINNING, 0)
    assert mark.store == ""


def test_a_first_disk_needs_nothing_to_be_read(tmp_path: Path) -> None:
    opened, lost_from = pending_restore.open_disk(tmp_path / "m", PendingMark(points=[BEGINNING]))
    assert (opened.count, lost_from) == (0, None)


def test_a_silent_broker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_restore, "SILENT_READS_MAX", 3)
    rebuild = PendingRebuild(LabelJoin(1, JoinTotals()), BEGINNING, {PartitionKey(PREDICTION, 0): 5})
    consumer = MemoryConsumer()
    for topic in ("predictions", "labels"):
        consumer.write(topic)

    class Silent:
        def take_predictions(self, messages: object, now_ms: int) -> None: ...
        def take_labels(self, messages: object, now_ms: int) -> None: ...

    source = direct_source("predictions", "labels", rebuild.inputs, Silent())
    with pytest.raises(KafkaTimeoutError, match="predictions: no record arrived"):
        pending_restore.read_again(consumer, source, rebuild, lambda: None)


@pytest.mark.parametrize("damaged", ["CURRENT", "MANIFEST-*"])
@pytest.mark.parametrize("content", [None, b"", b"damage" * 99])
def test_a_damaged_disk_is_read_again(tmp_path: Path, damaged: str, content: bytes | None) -> None:
    disk = PendingDisk(tmp_path / "m", "a", 0)
    disk.append("p", 1, b"1")
    generation = disk.commit()
    disk.close()
    (path,) = (tmp_path / "m").glob(damaged)
    path.unlink() if content is None else path.write_bytes(content)
    opened, lost_from = pending_restore.open_disk(tmp_path / "m", PendingMark("a", generation, [BEGINNING]))
    assert lost_from == BEGINNING
    opened.append("q", 1, b"2")
    assert opened.commit() == 1
    opened.close()


def test_damage_that_is_found_later_is_read_again_by_the_next_process(tmp_path: Path) -> None:
    disk = PendingDisk(tmp_path / "m", "a", 0)
    for number in range(1000):
        disk.append(f"p{number}", number, b"1")
    generation = disk.commit()
    disk.close()
    PendingDisk(tmp_path / "m", "a", generation).close()  # writes the log into a table
    (table,) = (tmp_path / "m").glob("*.sst")
    content = bytearray(table.read_bytes())
    content[1000:3000] = b"damage" * 333 + b"xx"
    table.write_bytes(content)
    mark = PendingMark("a", generation, [BEGINNING])
    opened, lost_from = pending_restore.open_disk(tmp_path / "m", mark)
    assert lost_from is None
    with pytest.raises(GenerationLostError, match="is damaged"):
        [opened.get(f"p{number}") for number in range(1000)]
    opened.close()
    again, lost_from = pending_restore.open_disk(tmp_path / "m", mark)
    assert lost_from == BEGINNING
    again.close()


def test_a_store_that_a_worker_which_hangs_has_open_is_replaced(tmp_path: Path) -> None:
    disk, _ = pending_restore.open_disk(tmp_path / "m", PendingMark())
    disk.append("p", 1, b"1")
    mark = PendingMark("", 0, [BEGINNING])
    mark.generation, mark.store = disk.commit(), disk.store
    other, lost_from = pending_restore.open_disk(tmp_path / "m", mark)
    assert lost_from == BEGINNING
    other.append("q", 1, b"2")
    other.commit()
    disk.append("r", 2, b"3")
    assert (disk.commit(), disk.count, other.count) == (2, 2, 1)
    other.close()
    disk.close()


def test_stores_that_no_snapshot_names_are_deleted_with_the_next_new_one(tmp_path: Path) -> None:
    for number in range(3):
        disk, _ = pending_restore.open_disk(tmp_path / "m", PendingMark())
        disk.append("p", number, b"1")
        disk.commit()
        disk.close()
    assert len(list((tmp_path / "m" / pending_restore.STORES).iterdir())) == 1
