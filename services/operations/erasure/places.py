"""The places in which data of a subject are kept, each with what finds and what removes them there.

The ids of the subject's requests lead to predictions, outcomes, labels and dead letters, and are found in the
requests. So the archived requests are the last place.
"""

import dataclasses
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from kafka import TopicPartition

from services.archive import row_schemas
from services.feature_store.plan import FeaturePlan
from services.monitoring import inference_log
from services.operations.erasure import (
    archived_rows,
    held_letters,
    log_statistics,
    online_rows,
    parquet_files,
    trained_versions,
)
from services.operations.erasure.kafka_holdings import Holdings
from services.operations.erasure.record_matcher import RecordMatcher
from services.operations.erasure.subject import Subject, views_of
from services.retraining.run_folder import DATA
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import topics
from streams.codec import KafkaRecord

ONLINE_STORE = "online store"
_SCHEMAS = {each.name: each for each in (row_schemas.EVENTS, row_schemas.PREDICTIONS, row_schemas.OUTCOMES)}


@dataclasses.dataclass(frozen=True)
class World:
    """What is searched, with the connections."""

    settings: Settings
    plan: FeaturePlan
    models: Mapping[str, ModelDeclaration]
    subject: Subject
    matcher: RecordMatcher
    holdings: Holdings
    client: Any
    """Of the online store."""

    @property
    def request_topics(self) -> list[str]:
        """The topics of requests whose schema has the join keys of the subject."""
        keys = set(self.subject.join_keys)
        return sorted(
            {
                model.request.topic
                for model in self.models.values()
                if keys <= {field.name for field in model.request.fields}
            }
        )

    @property
    def linked_models(self) -> list[str]:
        """The models whose requests name the subject."""
        found = set(self.request_topics)
        return [name for name, model in self.models.items() if model.request.topic in found]

    @property
    def event_topics(self) -> list[str]:
        """All topics of applications: events, requests and labels."""
        found = set(self.plan.by_topic())
        for model in self.models.values():
            found |= {model.request.topic, model.label.topic}
        return sorted(found)

    def table(self, name: str) -> DeltaTable | None:
        """Open a table of the archive; None if there is none."""
        return archived_rows.opened(inference_log.path(self.settings, name))

    def find_requests(self) -> list[tuple[str, int, int]]:
        """Note the ids of the requests, in the archive and in Kafka beyond it; return their places."""
        places: list[tuple[str, int, int]] = []
        table = self.table(inference_log.EVENTS)
        if table is not None:
            rows = archived_rows.find(table, inference_log.EVENTS, self.request_topics, self._matches_request)
            places += [(row.group, row.partition, row.offset) for row in rows]
        for topic in self.request_topics:
            for record in self.holdings.records(topic, self.archived_to(inference_log.EVENTS, topic)):
                if self.matcher.is_own(topic, record.key, record.value):
                    self.matcher.note_request(topic, record.value)
                    places.append((topic, record.partition, record.offset))
        return places

    def _matches_request(self, topic: str, row: Mapping[str, Any]) -> bool:
        is_own = self.matches_event(topic, row)
        if is_own:
            self.matcher.note_request(topic, row["value"])
        return is_own

    def matches_event(self, topic: str, row: Mapping[str, Any]) -> bool:
        """Return whether an archived event is of the subject."""
        return self.matcher.is_own(topic, row["key"], row["value"])

    def matches_result(self, model: str, row: Mapping[str, Any]) -> bool:
        """Return whether an archived prediction or outcome is of the subject."""
        return row["prediction_id"] in self.matcher.ids.get(model, ())

    def is_own(self, record: KafkaRecord) -> bool:
        """Return whether a record of a topic that is archived is of the subject."""
        if record.topic.startswith(topics.PREFIX):
            return self.matcher.is_own_result(record.topic, record.value)
        return self.matcher.is_own(record.topic, record.key, record.value)

    def archived_to(self, table: str, topic: str) -> dict[int, int]:
        """Return the next offset of each partition that is not in the archive."""
        numbers = [each.partition for each in self.holdings.partitions(topic)]
        return inference_log.positions(self.settings, table, {topic: numbers})[topic]

    def archived_topics(self) -> Iterator[tuple[str, str]]:
        """Yield each topic that may hold the subject and is archived, with its table."""
        yield from ((topic, inference_log.EVENTS) for topic in self.event_topics)
        for name in self.linked_models:
            yield topics.predictions(name), inference_log.PREDICTIONS
            yield topics.outcomes(name), inference_log.OUTCOMES


@dataclasses.dataclass
class Place:
    """One place: what was found there, and what removes it."""

    name: str
    find: Callable[[], int]
    """Returns the number of rows, records or files."""
    erase: Callable[[], str]
    """Removes what was found last; returns what there is to say about it."""
    found: int = 0
    erased: int = 0
    note: str = ""
    always: bool = False
    """Whether there may be something to remove that a search does not find, after a run that was killed."""


def of(world: World) -> list[Place]:
    """Return all places, in the order in which they have to be erased."""
    return [
        *(_files(world)),
        _letters(world),
        _rows(world),
        _table(world, inference_log.OUTCOMES, world.linked_models, world.matches_result),
        _table(world, inference_log.PREDICTIONS, world.linked_models, world.matches_result),
        _table(world, inference_log.EVENTS, world.event_topics, world.matches_event),
    ]


def _rows(world: World) -> Place:
    found: list[bytes] = []

    def find() -> int:
        found[:] = online_rows.find(world.client, world.plan.project, world.subject)
        return len(found)

    def erase() -> str:
        online_rows.delete(world.client, found)
        return online_rows.rewrite_files(world.client)

    return Place(ONLINE_STORE, find, erase)


def _letters(world: World) -> Place:
    plans: list[held_letters.LetterPlan] = []

    def find() -> int:
        plans[:] = [held_letters.find(world.settings, world.matcher.is_own_letter)]
        return plans[0].own

    def erase() -> str:
        held_letters.erase(world.settings, plans[0])
        return f"{len(plans[0].copied)} letters of others were written again" if plans[0].copied else ""

    return Place("dead letters", find, erase)


def _table(
    world: World, name: str, groups: Sequence[str], matches: Callable[[str, Mapping[str, Any]], bool]
) -> Place:
    rows: list[archived_rows.FoundRow] = []

    def find() -> int:
        table = world.table(name)
        rows.clear()
        if table is None:
            return 0
        rows.extend(archived_rows.find(table, name, groups, matches))
        return len(rows) + len(archived_rows.files_with(table, name, archived_rows.old_files(table), matches))

    def erase() -> str:
        table = world.table(name)
        if table is None:
            return ""
        archived_rows.delete(table, name, rows)
        table.update_incremental()
        gone = archived_rows.files_with(table, name, archived_rows.old_files(table), matches)
        named = trained_versions.of_table(world.settings, name)
        lost = archived_rows.unreadable_versions(table, named, gone)
        archived_rows.remove_old_files(table, sorted(set(named) - set(lost)))
        if (folder := archived_rows.local_folder(table)) is not None:
            log_statistics.remove(table.table_uri, folder, _SCHEMAS[name].integer_columns)
        models = sorted({each for version in lost for each in named[version]})
        return f"the training data of {', '.join(models)} cannot be read any more" if models else ""

    return Place(f"archive: {name}", find, erase, always=True)


def _files(world: World) -> Iterator[Place]:
    for view in views_of(world.plan, world.subject):
        if view.batch_file is not None and view.is_stream:
            yield _file(f"history of {view.name}", Path(view.batch_file.path), world.subject)
    yield _folders(world)


def _file(name: str, path: Path, subject: Subject) -> Place:
    def find() -> int:
        return parquet_files.count(path, subject.join_keys, subject.is_in)

    def erase() -> str:
        parquet_files.remove_rows(path, subject.join_keys, subject.is_in)
        return ""

    return Place(name, find, erase)


def _folders(world: World) -> Place:
    """Return the place of the run folders of retrainings, and of the states of skew checks."""
    found: list[Path] = []
    home = world.settings.home.resolve()

    def find() -> int:
        found.clear()
        for model, ids in world.matcher.ids.items():
            own = _named_in(ids)
            found.extend(
                data.parent
                for data in sorted((home / "runs" / model).glob(f"*/{DATA}"))
                if parquet_files.count(data, ["prediction_id"], own)
            )
            skew = home / "skew" / f"{model}.json"
            if skew.is_file() and any(each in skew.read_text(encoding="utf-8") for each in ids):
                found.append(skew)
        return len(found)

    def erase() -> str:
        for path in found:
            _remove(path)
        return "run folders and skew checks are removed as a whole"

    return Place("run folders", find, erase)


def _named_in(ids: Collection[str]) -> Callable[[Mapping[str, Any]], bool]:
    return lambda row: row["prediction_id"] in ids


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def batch_rows(world: World) -> dict[str, int]:
    """Return the number of rows of the subject in the batch sources, which belong to the application."""
    counts = {
        view.batch_file.path: parquet_files.count(
            Path(view.batch_file.path), world.subject.join_keys, world.subject.is_in
        )
        for view in views_of(world.plan, world.subject)
        if view.batch_file is not None and not view.is_stream
    }
    return {path: count for path, count in counts.items() if count}


def unanswered(world: World, requests: Sequence[tuple[str, int, int]]) -> int:
    """Return how many of these requests a scoring process has still to answer, for some model."""
    waiting = 0
    for name in world.linked_models:
        topic = world.models[name].request.topic
        committed = world.holdings.committed(f"driftline.scoring.{name}")
        if committed:
            waiting += sum(
                offset >= committed.get(TopicPartition(topic, partition), 0)
                for of_topic, partition, offset in requests
                if of_topic == topic
            )
    return waiting
