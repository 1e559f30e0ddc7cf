"""Opens the predictions of a model that wait on disk; reads them again from the topics if they are lost."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from services.monitoring.pending_disk import GenerationLostError, PendingDisk
from services.monitoring.pending_rebuild import PendingMark, PendingRebuild, RebuildPoint
from services.monitoring.prediction_decoder import DecoderFor
from services.monitoring.prediction_source import PredictionSource, PredictionSourceReader, direct_source
from services.runtime import kafka_consumers
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import topics
from streams.inputs import PartitionKey

_log = structlog.get_logger()
SILENT_READS_MAX = 240
"""Reads in a row without a record, of 0.25 s each, after which the broker counts as unavailable."""


def folder_of(settings: Settings, service: str, model: str) -> Path:
    """Return the folder of one model's predictions on disk; only one process may use it."""
    return settings.home / "state" / service / model


def open_disk(folder: Path, mark: PendingMark) -> tuple[PendingDisk, RebuildPoint | None]:
    """Return the disk that a snapshot names.

    If that is lost (another machine, an older copy), return an empty one, and where to read again; the mark
    then names the empty one.

    Raises `OutageError` if another process uses the folder.
    """
    if mark.generation and mark.store:
        try:
            return PendingDisk(folder, mark.store, mark.generation), None
        except GenerationLostError as error:
            _log.warning("pending.read_again", folder=str(folder), reason=str(error))
    point = mark.points[0] if mark.generation and mark.points else None
    mark.generation, mark.store = 0, ""
    return PendingDisk(folder, "", 0), point


def refill(
    settings: Settings,
    service: str,
    declaration: ModelDeclaration,
    decoder_for: DecoderFor,
    rebuild: PendingRebuild,
) -> None:
    """Read again what waited on a disk that is lost; then `PendingRebuild.finish` is due.

    Raises:
        KafkaTimeoutError: The broker sent nothing for a minute.
    """
    source = direct_source(
        topics.predictions(declaration.name), declaration.label.topic, rebuild.inputs, decoder_for(rebuild)
    )
    with contextlib.closing(kafka_consumers.connect(settings, f"{service}-pending")) as consumer:
        read_again(consumer, source, rebuild)


def read_again(consumer: KafkaConsumer, source: PredictionSource, rebuild: PendingRebuild) -> None:
    """Pass to a rebuild the records from its point to the positions of the snapshot.

    Args:
        consumer: Of this call alone.
        source: The model's topics, whose handler passes the records to the rebuild.
        rebuild: Joins them.

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
        reader.pause_leading_partitions()


def _positions(consumer: KafkaConsumer, source: PredictionSource) -> Mapping[PartitionKey, int]:
    return {
        key: consumer.position(TopicPartition(source.topic_of(key.kind), key.partition))
        for key in source.positions()
    }


def _call(_model: str, handle: Callable[..., None], *arguments: object) -> None:
    handle(*arguments)
