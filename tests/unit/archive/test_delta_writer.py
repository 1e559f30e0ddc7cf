"""Rows and positions in a Delta table in a folder."""

import dataclasses
from pathlib import Path

import msgspec
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from services.archive import delta_writer, row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.model_registry.model_inputs import InputKind
from services.monitoring import inference_log
from services.retraining import extraction
from services.retraining.extraction import Wanted
from services.runtime.declaration import DAY_MS
from services.runtime.settings import Settings
from streams import records, topics
from tests.unit.archive.kafka_records import OUTCOME, PREDICTION, TOPIC, Record, outcome
from tests.unit.drift import scenario


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def rows(*offsets: int) -> list[DecodedRecord]:
    return [DecodedRecord(Record(n, outcome(n)), row_schemas.OUTCOMES.decode(outcome(n))) for n in offsets]


def archived_offsets(settings: Settings) -> list[int]:
    with inference_log.connect(settings) as log:
        return [offset for (offset,) in log.execute('SELECT "offset" FROM outcomes ORDER BY ALL').fetchall()]


def test_rows_and_positions_are_committed_together(settings: Settings):
    DeltaWriter(settings, row_schemas.OUTCOMES).append(rows(0, 1), {(TOPIC, 0): 2, (TOPIC, 1): 7})

    assert archived_offsets(settings) == [0, 1]
    assert inference_log.positions(settings, "outcomes", {TOPIC: range(3)}) == {TOPIC: {0: 2, 1: 7, 2: 0}}


def test_rows_below_the_recorded_position_are_not_written_again(settings: Settings):
    DeltaWriter(settings, row_schemas.OUTCOMES).append(rows(0, 1), {(TOPIC, 0): 2})
    restarted = DeltaWriter(settings, row_schemas.OUTCOMES)

    assert restarted.position((TOPIC, 0)) == 2
    assert restarted.source_offsets(TOPIC) == {0: {"": {0: [0, 1]}}}
    restarted.append(rows(1, 2), {(TOPIC, 0): 3})
    assert archived_offsets(settings) == [0, 1, 2]


def test_a_writer_that_lost_its_partition_without_noticing_writes_nothing(settings: Settings):
    slow, fast = DeltaWriter(settings, row_schemas.OUTCOMES), DeltaWriter(settings, row_schemas.OUTCOMES)
    fast.append(rows(0, 1, 2), {(TOPIC, 0): 3})
    slow.append(rows(0, 1), {(TOPIC, 0): 2})

    assert archived_offsets(settings) == [0, 1, 2]
    assert slow.position((TOPIC, 0)) == 3


def test_two_commits_of_one_partition_at_the_same_moment_conflict(settings: Settings):
    first, second = DeltaWriter(settings, row_schemas.OUTCOMES), DeltaWriter(settings, row_schemas.OUTCOMES)
    first.commit(rows(0), {(TOPIC, 0): 1})

    with pytest.raises(CommitFailedError):
        second.commit(rows(0), {(TOPIC, 0): 1})
    assert archived_offsets(settings) == [0]


def test_positions_without_rows_are_committed(settings: Settings):
    writer = DeltaWriter(settings, row_schemas.OUTCOMES)
    writer.append([], {(TOPIC, 0): 5})

    assert writer.position((TOPIC, 0)) == 5
    assert writer.source_offsets(TOPIC) == {}


def test_compaction_keeps_rows_and_positions(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delta_writer, "COMPACT_COMMITS", 3)
    writer = DeltaWriter(settings, row_schemas.OUTCOMES)
    for offset in range(3):
        writer.append(rows(offset), {(TOPIC, 0): offset + 1})

    assert len(inference_log.tables(settings)["outcomes"].file_uris()) == 1
    assert archived_offsets(settings) == [0, 1, 2]
    assert writer.position((TOPIC, 0)) == 3


NEW_COLUMNS = {
    "probabilities",
    "predicted_class",
    "class_name",
    "cost",
    "feature_set",
    "source",
    "definition",
}


def earlier(table: row_schemas.Table) -> row_schemas.Table:
    """Return the table as the version before wrote it."""
    return dataclasses.replace(table, columns=[c for c in table.columns if c.name not in NEW_COLUMNS])


def append(
    settings: Settings,
    table: row_schemas.Table,
    topic: str,
    found: list[records.Prediction] | list[records.Outcome],
    start: int = 0,
) -> None:
    """Append encoded records as the archive process does."""
    values = [records.encode(each) for each in found]
    decoded = [
        DecodedRecord(Record(start + number, value, topic=topic), table.decode(value))
        for number, value in enumerate(values)
    ]
    DeltaWriter(settings, table).append(decoded, {(topic, 0): start + len(found)})


def test_rows_of_an_earlier_table_have_nulls_in_new_columns(settings: Settings):
    known = msgspec.structs.replace(OUTCOME, class_name="blue", cost=25.0)
    append(settings, earlier(row_schemas.OUTCOMES), TOPIC, [known])
    append(settings, row_schemas.OUTCOMES, TOPIC, [known], start=1)

    with inference_log.connect(settings) as log:
        found = log.execute('SELECT "offset", loss, class_name, cost FROM outcomes ORDER BY ALL').fetchall()
    assert found == [(0, 0.7, None, None), (1, 0.7, "blue", 25.0)]
    assert inference_log.positions(settings, "outcomes", {TOPIC: [0]}) == {TOPIC: {0: 2}}


def test_a_member_of_an_earlier_version_goes_on_appending(settings: Settings):
    """During a rolling update two versions write the same table."""
    append(settings, row_schemas.OUTCOMES, TOPIC, [msgspec.structs.replace(OUTCOME, cost=25.0)])
    append(settings, earlier(row_schemas.OUTCOMES), TOPIC, [OUTCOME], start=1)

    with inference_log.connect(settings) as log:
        assert log.execute('SELECT cost FROM outcomes ORDER BY "offset"').fetchall() == [(25.0,), (None,)]


def test_the_first_commit_adds_columns_that_could_not_be_added_before(settings: Settings):
    """Another member's commit at that moment refuses the change of the schema."""
    DeltaWriter(settings, row_schemas.OUTCOMES)
    late = dataclasses.replace(row_schemas.OUTCOMES, name="earlier_outcomes")
    DeltaWriter(settings, dataclasses.replace(earlier(row_schemas.OUTCOMES), name="earlier_outcomes"))

    class Refusing(DeltaWriter):
        def add_new_columns(self) -> None:
            pass

    Refusing(settings, late).append(rows(0), {(TOPIC, 0): 1})
    table = DeltaTable(inference_log.path(settings, "earlier_outcomes"))
    assert NEW_COLUMNS & {field.name for field in table.schema().fields} == {
        "class_name",
        "cost",
        "source",
        "definition",
    }


def test_several_classes_and_costs_are_read_back(settings: Settings):
    predicted = msgspec.structs.replace(PREDICTION, prediction="red", probabilities=[0.25, 0.5, 0.25])
    known = msgspec.structs.replace(OUTCOME, label=2.0, class_name="blue", cost=25.0)
    append(settings, row_schemas.PREDICTIONS, topics.predictions("m"), [predicted])
    append(settings, row_schemas.OUTCOMES, TOPIC, [known])

    with inference_log.connect(settings) as log:
        found = log.execute(
            "SELECT predicted_class, probabilities, class_name, cost, features_number, features_text "
            "FROM predictions JOIN outcomes USING (prediction_id)"
        ).fetchall()
    assert found == [
        ("red", [0.25, 0.5, 0.25], "blue", 25.0, [7.0, None, None, 1.0], [None, "UA", None, None])
    ]


@pytest.mark.parametrize("appended", [0, 1])
def test_a_training_set_is_read_from_an_earlier_table(settings: Settings, appended: int):
    number, text = InputKind.NUMBER, InputKind.TEXT
    given = {"amount": number, "carrier": text, "gate": number, "weekend": number}
    append(settings, earlier(row_schemas.PREDICTIONS), topics.predictions("m"), [PREDICTION])
    append(settings, earlier(row_schemas.OUTCOMES), TOPIC, [OUTCOME])
    if appended:
        later = {"prediction_id": "0-1", "source_offset": 1}
        predicted = msgspec.structs.replace(PREDICTION, prediction="red", probabilities=[1.0], **later)
        append(settings, row_schemas.PREDICTIONS, topics.predictions("m"), [predicted], start=1)
        append(settings, row_schemas.OUTCOMES, TOPIC, [msgspec.structs.replace(OUTCOME, **later)], start=1)

    found = extraction.read(settings, Wanted(scenario.declaration(), given, known_ms=DAY_MS))
    assert found.rows["prediction_id"].tolist() == ["0-0", "0-1"][: 1 + appended]
    assert found.features["amount"].tolist() == [7.0, 7.0][: 1 + appended]


def test_files_of_a_version_that_a_model_names_outlive_compaction(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delta_writer, "COMPACT_COMMITS", 4)
    monkeypatch.setattr(delta_writer, "RETENTION_HOURS", 0)
    monkeypatch.setattr(delta_writer.DeltaWriter, "_maintain", maintain_at_once)
    named: list[int] = []
    writer = DeltaWriter(settings, row_schemas.PREDICTIONS, lambda _: named)

    def write(number: int) -> None:
        made = msgspec.structs.replace(PREDICTION, prediction_id=f"p{number}", source_offset=number)
        record = DecodedRecord(Record(number, b"", topic=topics.predictions("m")), made)
        writer.append([record], {(topics.predictions("m"), 0): number + 1})

    def rows(version: int) -> int:
        found = inference_log.tables(settings, {inference_log.PREDICTIONS: version})
        return int(found[inference_log.PREDICTIONS].to_pyarrow_table().num_rows)

    for number in range(3):
        write(number)
    named.append(2)
    for number in range(3, 9):
        write(number)
    assert rows(2) == 2
    with pytest.raises(Exception, match=r"No such file|not found"):
        rows(3)


def maintain_at_once(self: DeltaWriter) -> None:
    """Do what the archive does, without the seven days for which all files are kept."""
    self._commits += 1
    if self._commits % delta_writer.COMPACT_COMMITS == 0:
        self._delta.optimize.compact()
        self._delta.vacuum(
            retention_hours=0,
            dry_run=False,
            enforce_retention_duration=False,
            keep_versions=self._named(self._table.name) or None,
        )
