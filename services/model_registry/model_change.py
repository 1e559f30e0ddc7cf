"""The one decoder of the models topic's records, for every process that reads them. Pure."""

from streams import records, topics
from streams.json_decoder import InvalidRecordError
from streams.records import FeatureSet, ModelChanged

REFERENCE_BYTES_MAX = topics.MODELS.message_bytes_max() - topics.OVERHEAD_BYTES
"""Maximum size of a reference in a change: some 3,000 features with 20 segments each."""

_decode = records.decoder_of(records.ModelsRecord).decode


class InvalidChangeError(InvalidRecordError):
    """A record of the models topic is not a valid `ModelChanged`. The message says why."""


def decode(value: bytes | None) -> ModelChanged | None:
    """Return the change that a record's value holds; None for a tombstone or names, which change nothing.

    Raises `InvalidChangeError`. A reader reports such a record and skips it: the latest valid record of the
    model stays in effect.
    """
    found = decode_any(value)
    return found if isinstance(found, ModelChanged) else None


def decode_any(value: bytes | None) -> ModelChanged | FeatureSet | None:
    """Return the change or the names of features that a record's value holds; None for a tombstone.

    Raises `InvalidChangeError`.
    """
    if value is None:
        return None
    try:
        found: ModelChanged | FeatureSet = _decode(value)
    except InvalidRecordError as error:
        raise InvalidChangeError(f"the record is not a valid ModelChanged: {error}") from error
    return found


def fault_of_size(reference: records.Reference) -> str | None:
    """Return what to do about a reference that fits into no record of the topic; None if it fits.

    To be asked before a version is registered: afterwards its promotion would stop halfway.
    """
    size_bytes = len(records.encode(reference))
    if size_bytes <= REFERENCE_BYTES_MAX:
        return None
    return (
        f"the reference of {len(reference.features)} features has {size_bytes} bytes, {topics.MODELS.name} "
        f"takes {REFERENCE_BYTES_MAX}: declare fewer segments or seasons in model.yaml, or fewer features"
    )
