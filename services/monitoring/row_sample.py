"""Which predictions of a very hot model drift monitors: a share of them, by a hash of their ids. Pure.

A label has the id of its prediction, so both are in the sample or neither is. The hash (MurmurHash3) is the
same in all processes and versions, and not the one that chooses arms: every arm has the same share.
"""

import mmh3

_SEED = 0x5EED
_HASHES = 1 << 32


class RowSample:
    """A share of all ids; a smaller share is a part of a larger one."""

    def __init__(self, share: float) -> None:
        """Take the share, above 0 and up to 1."""
        self._stop = round(share * _HASHES)

    def includes(self, identity: str) -> bool:
        """Return whether an id is in the sample.

        >>> sum(RowSample(0.1).includes(f"request-{number}") for number in range(10_000))
        1024
        """
        found: int = mmh3.hash(identity, _SEED, False)
        return found < self._stop
