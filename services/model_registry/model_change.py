"""The one decoder of the models topic's records, for every process that reads them. Pure."""

from streams import records
from streams.feature_sets import digest_of
from streams.json_decoder import InvalidRecordError
from streams.records import FeatureSet, ModelChanged

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
    if isinstance(found, FeatureSet):
        _check_digest(found)
    return found


def _check_digest(published: FeatureSet) -> None:
    """Raise unless the digest is that of the names: predictions would be read with another meaning."""
    expected = digest_of(published.names, published.text, published.definitions)
    if published.digest != expected:
        raise InvalidChangeError(
            f"the feature set {published.digest!r} of model {published.model!r} has names with the digest "
            f"{expected!r}: find the process that wrote it"
        )
