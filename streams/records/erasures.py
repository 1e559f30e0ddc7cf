"""The subjects whose data were erased: what was written about them before must not come back."""

import msgspec

from streams.records.field_types import Int64, TimeMs


class Erasure(msgspec.Struct, kw_only=True, frozen=True):
    """One subject that was erased, without its value: a digest, and how far its records in Kafka reach.

    A process that builds a state from records of the past leaves out those of the subject. What the subject
    does after the erasure counts again.
    """

    erasure_id: str
    join_keys: list[str]
    """Names of the join keys that the digest is about, sorted."""
    salt: bytes
    """Key of the digests. A reader of it can test guesses, so it is deleted with this record."""
    digest: bytes
    """Digest of the values of the join keys, see `services.feature_store.erasures`."""
    at_ms: TimeMs
    """Wall time."""
    expires_ms: TimeMs | None
    """Wall time after which Kafka holds no record of the subject from before; null: there is no such time."""
    offsets: dict[str, list[Int64]]
    """End offset of each partition at that time, by source topic of a feature view: the subject's records
    before it are left out."""
    topic_ids: dict[str, str] = {}
    """Kafka's id of each of these topics: offsets of a topic that was recreated mean nothing."""
    complete: bool = False
    """Whether everything that was found is erased; otherwise the erasure has to be run again."""
