"""A local Ray cluster makes the training set that DuckDB makes, to the last bit."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from msgspec.structs import replace

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.model_registry.model_inputs import InputKind
from services.retraining import extraction
from services.retraining.errors import InvalidDataError, RetrainingError
from services.retraining.extraction import Wanted
from services.retraining.run_folder import DATA
from services.retraining.training_set import DataDescription
from services.runtime.declaration import HOUR_MS
from services.runtime.settings import Settings
from tests.unit.archive.kafka_records import Record
from tests.unit.retraining import training_data
from tests.unit.retraining.archived_rows import archive, outcome, prediction

GIVEN = {"x": InputKind.NUMBER, "carrier": InputKind.TEXT}
HORIZON = {"horizon_hours": 1000 / HOUR_MS}
ROWS = 3000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of this machine with two CPUs."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of several files, with rows of equal times, repeated ids, corrections and immature rows."""
    folder = tmp_path_factory.mktemp("archive")
    settings = Settings(home=folder, _env_file=None)
    for part in range(3):
        numbers = range(part, ROWS, 3)
        rows = [prediction(f"é{n * 7919 % ROWS}", n // 2, [n / 7, "UA" if n % 5 else None]) for n in numbers]
        labels = [outcome(row.prediction_id, row.event_time_ms, float(n % 2)) for n, row in enumerate(rows)]
        again = [
            replace(each, label=1.0 - (each.label or 0), correction=1, label_time_ms=each.label_time_ms + 1)
            for each in labels[::9]
        ]
        write(settings, row_schemas.PREDICTIONS, part, [*rows, *rows[:20]])
        write(settings, row_schemas.OUTCOMES, part, [*labels, *again])
    return folder


def write(settings: Settings, table: row_schemas.Table, partition: int, found: list[Any]) -> None:
    """Append records of one partition, which makes one more file."""
    kept = [DecodedRecord(Record(n, b"", partition, table.name), each) for n, each in enumerate(found)]
    DeltaWriter(settings, table).append(kept, {(table.name, partition): len(kept)})


def extracted(home: Path, engine: Any, folder: Path, **changes: Any) -> DataDescription:
    settings = Settings(home=home, retraining_engine=engine, _env_file=None)
    declared = training_data.declaration("label", **HORIZON)
    declared = declared.model_copy(update={"retraining": declared.retraining.model_copy(update=changes)})
    return extraction.extract(settings, Wanted(declared, GIVEN, ROWS // 2 + 900), folder / f"{engine}.{DATA}")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("changes", [{}, {"max_rows": 700, "max_days": 600 / 86_400_000}])
def test_ray_and_duckdb_make_the_same_training_set(
    home: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    expected = extracted(home, "duckdb", tmp_path, **changes)
    assert extracted(home, "ray", tmp_path, **changes) == expected
    assert changes.get("max_rows", 1000) <= expected.version.rows < ROWS
    assert expected.immature > 0
    assert (expected.beyond_caps > 0) == bool(changes)
    files = [(tmp_path / f"{engine}.{DATA}").read_bytes() for engine in ("duckdb", "ray")]
    assert files[0] == files[1]


@pytest.mark.usefixtures("cluster")
def test_an_archive_without_mature_rows_is_refused_as_with_duckdb(tmp_path: Path) -> None:
    archive(
        Settings(home=tmp_path, _env_file=None), [prediction("a", 10_000, [1, "UA"])], [outcome("a", 10_000)]
    )
    for engine in ("duckdb", "ray"):
        with pytest.raises(InvalidDataError, match="no prediction has a label that was known"):
            extracted(tmp_path, engine, tmp_path)


def test_without_the_package_the_message_says_what_to_install(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RetrainingError, match=r"Ray is not installed: install driftline\[ray\], or set the"):
        extracted(home, "ray", tmp_path)
