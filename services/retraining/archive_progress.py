"""What a training set needs from the archive: which records it must hold before the rows are read."""

import time
from collections.abc import Callable, Mapping, Sequence

from services.monitoring import inference_log
from services.retraining.errors import ArchiveBehindError
from services.runtime.settings import Settings
from streams import topics
from streams.records import RetrainingRequested

ARCHIVE_SECONDS_MAX = 180.0
"""Maximum wait for the archive: three times the age at which it commits a batch."""
ARCHIVE_POLL_SECONDS = 0.1

EndOffsets = Callable[[Sequence[str]], Mapping[str, list[int]]]
"""Returns the end offset of each partition of some topics."""


def wait_for_archive(
    settings: Settings,
    model: str,
    wanted: Mapping[str, Sequence[int]],
    seconds_max: float = ARCHIVE_SECONDS_MAX,
) -> None:
    """Wait until the archive holds all records of a model below these offsets, by topic and partition.

    Topics other than the model's predictions and outcomes are ignored. Raises `ArchiveBehindError` after
    ``seconds_max``.
    """
    deadline = time.monotonic() + seconds_max
    while missing := missing_records(settings, model, wanted):
        if time.monotonic() > deadline:
            raise ArchiveBehindError(
                f"after {seconds_max:g} s the archive does not hold {'; '.join(missing)}: "
                "check whether the archive process is running"
            )
        time.sleep(ARCHIVE_POLL_SECONDS)


def wanted_offsets(request: RetrainingRequested, end_offsets: EndOffsets) -> dict[str, list[int]]:
    """Return the request's offsets for the topics of the training set, or without any the end offsets."""
    table_of = archived_topics(request.model)
    requested = {topic: list(offsets) for topic, offsets in request.offsets.items() if topic in table_of}
    return requested or {topic: list(offsets) for topic, offsets in end_offsets(list(table_of)).items()}


def archived_topics(model: str) -> dict[str, str]:
    """Return the table of each topic that a training set reads."""
    return {
        topics.predictions(model): inference_log.PREDICTIONS,
        topics.outcomes(model): inference_log.OUTCOMES,
    }


def missing_records(settings: Settings, model: str, wanted: Mapping[str, Sequence[int]]) -> list[str]:
    """Return in words which records below these offsets the archive does not hold yet; see above."""
    table_of = archived_topics(model)
    missing = []
    for topic, offsets in wanted.items():
        if topic not in table_of:
            continue
        archived = inference_log.positions(settings, table_of[topic], {topic: range(len(offsets))})[topic]
        missing += [
            f"{topic}/{partition} from offset {archived[partition]} to {offset}"
            for partition, offset in enumerate(offsets)
            if archived[partition] < offset
        ]
    return missing
