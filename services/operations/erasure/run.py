"""One run of ``driftline erase``.

1. Search all places and the records that Kafka holds.
2. Write an entry of the ledger with what was found, then the erasure: features leave the subject out.
3. Wait until features and the archive have passed the records from before.
4. Search and remove in each place, in their order; search again.
5. Write the entry of the ledger with what was removed, then the erasure as complete.

A run that is killed is finished by the next one: each step looks at what is there, and an erasure that is not
complete is taken up again under its id.
"""

import dataclasses
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from services.archive.archiver import GROUP as ARCHIVE_GROUP
from services.feature_store import erasures
from services.feature_store.plan import View
from services.model_registry import ledger
from services.model_registry.ledger_chain import EntryDraft
from services.model_registry.ledger_drafts import ERASURE
from services.monitoring import inference_log
from services.operations.erasure import kafka_holdings, online_rows, places
from services.operations.erasure.kafka_holdings import Retention
from services.operations.erasure.places import Place, World
from services.operations.erasure.subject import Subject, views_of
from services.runtime import kafka_producers
from services.runtime.settings import Settings
from services.runtime.times import now_ms
from streams import records, topics
from streams.records import Erasure

FEATURES_GROUP = "driftline.features"
LEDGER_MODEL = "feature_store"
"""Stands in the ledger for all models: an erasure is about an entity."""
POLL_SECONDS = 0.2


@dataclasses.dataclass
class ErasureReport:
    """What was found and removed."""

    erasure_id: str
    places: Sequence[Place]
    not_archived: Mapping[str, int]
    """Records of the subject that the archive has still to read, by topic."""
    batch_sources: Mapping[str, int]
    """Rows of the subject in files of the application, by path."""
    retentions: Sequence[Retention]
    waiting_until_ms: int | None
    """Wall time until which predictions may wait for labels in drift, learning and rollout; None: none."""
    unlinked: Sequence[str]
    """Models whose requests do not name the join keys."""
    unfinished: Sequence[str]
    """What another run has to do, and when."""
    known: bool
    """Whether the subject was erased before."""
    resumed: bool
    """Whether this run has taken up an erasure that was not complete."""

    @property
    def found(self) -> int:
        """Number of rows, records and files that were found."""
        return sum(place.found for place in self.places)


@dataclasses.dataclass(frozen=True)
class Act:
    """Who erases and why."""

    actor: str
    reason: str
    dry_run: bool
    wait_seconds: float


def run(world: World, act: Act) -> ErasureReport:
    """Erase the subject, or say what would be erased.

    Raises:
        ErasureError: A place cannot be read or written. What is not erased is erased by the next run.
        KafkaError: The broker cannot be reached.
    """
    before = erasures.read(world.settings, "erase")
    known = [each for each in before if _is_of(each, world.subject)]
    requests = world.find_requests()
    found = places.of(world)
    for place in found:
        place.found = place.find()
    open_erasure = next((each for each in known if not each.complete), None)
    erasure = _erasure(world, before, open_erasure)
    unfinished: list[str] = []
    if not act.dry_run and (open_erasure or _has_any(found)):
        _begin(world, act, erasure, found)
        unfinished = _settle(world, act, erasure, requests)
        _erase(world, found)
        _end(world, act, erasure, found, unfinished)
        _forget_expired(world.settings, before)
    return ErasureReport(
        erasure_id=erasure.erasure_id,
        places=found,
        not_archived=_not_archived(world),
        batch_sources=places.batch_rows(world),
        retentions=world.holdings.retentions(holding_topics(world)),
        waiting_until_ms=_waiting_until_ms(world),
        unlinked=sorted(set(world.models) - set(world.linked_models)),
        unfinished=unfinished,
        known=bool(known),
        resumed=open_erasure is not None,
    )


def holding_topics(world: World) -> list[str]:
    """Return the topics that may hold records of the subject, in order."""
    keys = set(world.subject.join_keys)
    found = [*world.request_topics]
    for topic, views in world.plan.by_topic().items():
        source = views[0].source
        if source is not None and keys <= {field.name for field in source.fields}:
            found += [topic, *(topics.late(view.name) for view in views)]
            found += [topics.repartition(view.name) for view in views if view.is_repartitioned]
    for name in world.linked_models:
        found += [world.models[name].label.topic, topics.predictions(name), topics.outcomes(name)]
    found += [topics.FEATURE_LOG.name, topics.DRIFT_STATE.name, topics.LEARNING_STATE.name]
    return list(dict.fromkeys([*found, topics.ROLLOUT_STATE.name]))


def _waiting_until_ms(world: World) -> int | None:
    """Return when the last label horizon of the requests ends at the latest; None without requests."""
    horizons_ms = [world.models[name].label.horizon_ms for name, ids in world.matcher.ids.items() if ids]
    return now_ms() + max(horizons_ms) if horizons_ms else None


def _is_of(erasure: Erasure, subject: Subject) -> bool:
    return tuple(erasure.join_keys) == subject.join_keys and subject.digest(erasure.salt) == erasure.digest


def _has_any(found: Iterable[Place]) -> bool:
    return any(place.found for place in found)


def _erasure(world: World, before: Sequence[Erasure], unfinished: Erasure | None) -> Erasure:
    """Return the erasure of everything that is there now. All that are known share a salt, if they can."""
    salt = unfinished.salt if unfinished else next((each.salt for each in before), None)
    salt = salt or secrets.token_bytes(erasures.SALT_BYTES)
    views = _stream_views(world)
    sources = sorted({view.source.topic for view in views if view.source is not None})
    read = [*sources, *(topics.repartition(view.name) for view in views if view.is_repartitioned)]
    return Erasure(
        erasure_id=unfinished.erasure_id if unfinished else f"erasure-{uuid.uuid4().hex[:16]}",
        join_keys=list(world.subject.join_keys),
        salt=salt,
        digest=world.subject.digest(salt),
        at_ms=now_ms(),
        expires_ms=kafka_holdings.latest_end(world.holdings.retentions(read)),
        offsets={topic: world.holdings.ends(topic) for topic in sources},
        topic_ids={topic: world.holdings.topic_id(topic) for topic in sources},
    )


def _stream_views(world: World) -> list[View]:
    return [view for view in views_of(world.plan, world.subject) if view.is_stream]


def _begin(world: World, act: Act, erasure: Erasure, found: Sequence[Place]) -> None:
    counts = {place.name: place.found for place in found}
    ledger.append(world.settings, [_draft(world, act, erasure, "begun", {"found": counts})])
    _write(world.settings, erasure)
    online_rows.give_notice(world.client, world.plan.project)


def _settle(world: World, act: Act, erasure: Erasure, requests: Sequence[tuple[str, int, int]]) -> list[str]:
    """Wait until features and archive have passed what is there; return what they have still to do."""
    place = next(each for each in places.of(world) if each.name == places.ONLINE_STORE)
    if place.find():
        place.erase()  # at once: what features write until they have read the erasure is removed again below
    unfinished = []
    views = _stream_views(world)
    if world.holdings.has_members(FEATURES_GROUP):
        lacking = _waited(lambda: _unread(world, views, erasure), act.wait_seconds)
        if lacking:
            unfinished.append(
                f"features have still to apply {lacking} records: run it again when they have caught up"
            )
    if world.table(inference_log.EVENTS) is not None:
        seconds = act.wait_seconds if world.holdings.has_members(ARCHIVE_GROUP) else 0
        if lacking := _waited(lambda: sum(_not_archived(world).values()), seconds):
            unfinished.append(
                f"the archive has still to read {lacking} records of the subject: start it, and run it again "
                "when it has caught up"
            )
    if waiting := places.unanswered(world, requests):
        unfinished.append(
            f"scoring has still to answer {waiting} requests of the subject: run it again when it has done so"
        )
    return unfinished


def _unread(world: World, views: Sequence[View], erasure: Erasure) -> int:
    """Return how many records from before the erasure the views have still to apply."""
    ends = {view.name: erasure.offsets[view.source.topic] for view in views if view.source is not None}
    if lacking := online_rows.unread(world.client, world.plan, views, "source", ends):
        return lacking
    moved = [view for view in views if view.is_repartitioned]
    ends = {view.name: world.holdings.ends(topics.repartition(view.name)) for view in moved}
    return online_rows.unread(world.client, world.plan, moved, "view", ends)


def _not_archived(world: World) -> dict[str, int]:
    positions = {
        topic: world.archived_to(table, topic)
        for topic, table in world.archived_topics()
        if world.table(table) is not None
    }
    return kafka_holdings.unfinished(world.holdings, positions, world.is_own)


def _waited(lacking: Callable[[], int], seconds: float) -> int:
    """Wait until nothing is lacking, at most for this time; return what is."""
    stop = time.monotonic() + seconds
    while (count := lacking()) and time.monotonic() < stop:
        time.sleep(POLL_SECONDS)
    return count


def _erase(world: World, found: Sequence[Place]) -> None:
    """Remove what is in each place now: more may have come since the first search."""
    world.find_requests()
    for place in found:
        count = place.find()
        if count or place.always:
            place.note = place.erase()
        place.found = max(place.found, count)
        place.erased = place.found - place.find()


def _end(world: World, act: Act, erasure: Erasure, found: Sequence[Place], unfinished: list[str]) -> None:
    unfinished += [f"{place.name}: run it again" for place in found if place.found > place.erased]
    if unfinished:
        return
    evidence = {
        "erased": {place.name: place.erased for place in found},
        "notes": {place.name: place.note for place in found if place.note},
        "kafka_until_ms": erasure.expires_ms,
    }
    ledger.append(world.settings, [_draft(world, act, erasure, "done", evidence)])
    _write(world.settings, msgspec.structs.replace(erasure, complete=True))


def _draft(world: World, act: Act, erasure: Erasure, step: str, evidence: Mapping[str, Any]) -> EntryDraft:
    """Return an entry about an erasure: its digest stands for the value."""
    return EntryDraft(
        kind=ERASURE,
        model=LEDGER_MODEL,
        actor=act.actor,
        at_ms=now_ms(),
        request_id=erasure.erasure_id,
        step=step,
        evidence={
            "entities": list(world.subject.entities),
            "digest": erasure.digest.hex(),
            "reason": act.reason,
            **evidence,
        },
    )


def _write(settings: Settings, erasure: Erasure) -> None:
    with kafka_producers.connected(settings) as producer:
        producer.send(topics.ERASURES.name, erasure.erasure_id.encode(), records.encode(erasure))


def _forget_expired(settings: Settings, before: Sequence[Erasure]) -> None:
    """Delete the erasures, with their salt, of which Kafka holds no record any more."""
    expired = [
        each
        for each in before
        if each.complete and each.expires_ms is not None and each.expires_ms < now_ms()
    ]
    if expired:
        with kafka_producers.connected(settings) as producer:
            for each in expired:
                producer.send(topics.ERASURES.name, each.erasure_id.encode(), None)
