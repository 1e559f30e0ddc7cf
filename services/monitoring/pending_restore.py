"""Opens the predictions of a model that wait on disk; reads them again from the topics if they are lost."""

import contextlib
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from services.monitoring import pending_disk
from services.monitoring.pending_disk import DiskInUseError, GenerationLostError, PendingDisk
from services.monitoring.pending_rebuild import PendingMark, PendingRebuild, RebuildPoint
from services.monitoring.prediction_decoder import DecoderFor
from services.monitoring.prediction_source import PredictionSource, PredictionSourceReader, direct_source
from services.runtime import kafka_consumers
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import topics
from streams.inputs import PartitionKey

_log = structlog.get_logger()
STORES = "stores"
"""Folder of the stores, each in one of its name: a worker that hangs and its successor use different ones."""
SILENT_READS_MAX = 240
"""Reads in a row without a record, of 0.25 s each, after which the broker counts as unavailable."""


def folder_of(settings: Settings, service: str, model: str) -> Path:
    """Return the folder of one model's predictions on disk. Workers on one machine share it, not a store."""
    return settings.home / "state" / service / model


def open_disk(folder: Path, mark: PendingMark) -> tuple[PendingDisk, RebuildPoint | None]:
    """Return the disk that a snapshot names.

    If it cannot be had (it is on another machine, older, or in use by a worker that hangs), return a new one,
    and where to read again; the mark then names the empty one.
    """
    if mark.generation and mark.store:
        try:
            return PendingDisk(_path(folder, mark.store), mark.store, mark.generation), None
        except (GenerationLostError, DiskInUseError) as error:
            _log.warning("pending.read_again", folder=str(folder), reason=str(error))
    point = mark.points[0] if mark.generation and mark.points else None
    mark.generation, mark.store = 0, ""
    _delete_older(folder)
    store = uuid.uuid4().hex
    return PendingDisk(folder / STORES / store, store, 0), point


def _path(folder: Path, store: str) -> Path:
    """Return the folder of a store; older versions had one in the folder of the model itself."""
    path = folder / STORES / store
    return folder if not path.exists() and (folder / "CURRENT").exists() else path


def _delete_older(folder: Path) -> None:
    """Delete the stores that no snapshot names any more; those in use stay."""
    stores = folder / STORES
    for each in list(stores.iterdir()) if stores.exists() else ():
        pending_disk.delete(each)
    if (folder / "IDENTITY").exists():
        pending_disk.delete(folder)


def refill(
    settings: Settings,
    service: str,
    declaration: ModelDeclaration,
    decoder_for: DecoderFor,
    rebuild: PendingRebuild,
    keep_alive: Callable[[], object],
) -> None:
    """Read the predictions again that waited on a lost disk; then call `PendingRebuild.finish`.

    Args:
        settings: The broker.
        service: The process.
        declaration: The model.
        decoder_for: Makes the decoder of its records.
        rebuild: Joins them.
        keep_alive: Called again and again, since this may take minutes.

    Raises:
        KafkaTimeoutError: The broker sent nothing for a minute.
    """
    source = direct_source(
        topics.predictions(declaration.name), declaration.label.topic, rebuild.inputs, decoder_for(rebuild)
    )
    with contextlib.closing(kafka_consumers.connect(settings, f"{service}-pending")) as consumer:
        read_again(consumer, source, rebuild, keep_alive)


def read_again(
    consumer: KafkaConsumer,
    source: PredictionSource,
    rebuild: PendingRebuild,
    keep_alive: Callable[[], object],
) -> None:
    """Pass to a rebuild the records from its point to the positions of the snapshot.

    Args:
        consumer: A consumer for this call alone.
        source: The model's topics, whose handler passes the records to the rebuild.
        rebuild: Joins them.
        keep_alive: Called again and again.

    Raises:
        KafkaTimeoutError: The broker sent nothing for a minute.
    """
    reader = PredictionSourceReader(consumer)
    reader.follow({"": source})
    silent = 0
    while not rebuild.is_complete(_positions(consumer, source)):
        silent = 0 if reader.read(_call) else silent + 1
        if silent > SILENT_READS_MAX:
            raise KafkaTimeoutError(f"{source.predictions_topic}: no record arrived for a minute")
        rebuild.advance()
        keep_alive()
        reader.pause_leading_partitions()


def _positions(consumer: KafkaConsumer, source: PredictionSource) -> Mapping[PartitionKey, int]:
    return {
        key: consumer.position(TopicPartition(source.topic_of(key.kind), key.partition))
        for key in source.positions()
    }


def _call(_model: str, handle: Callable[..., None], *arguments: object) -> None:
    handle(*arguments)
