"""The one decoder of the models topic's records, for every process that reads them. Pure."""

from streams import records
from streams.json_decoder import InvalidRecordError
from streams.records import ModelChanged

_decode = records.decoder_of(ModelChanged).decode


class InvalidChangeError(InvalidRecordError):
    """A record of the models topic is not a valid `ModelChanged`. The message says why."""


def decode(value: bytes | None) -> ModelChanged | None:
    """Return the change that a record's value holds; None for a tombstone, which changes nothing.

    Raises `InvalidChangeError`. A reader reports such a record and skips it: the latest valid record of the
    model stays in effect.
    """
    if value is None:
        return None
    try:
        change: ModelChanged = _decode(value)
    except InvalidRecordError as error:
        raise InvalidChangeError(f"the record is not a valid ModelChanged: {error}") from error
    return change
