"""Decompression with a bound: a few kilobytes may stand for gigabytes. Pure."""

import zlib

STATE_BYTES_MAX = 2 << 30
"""Maximum size of a snapshot or a reference after decompression, as of some ten million values."""


def decompressed(raw: bytes, bytes_max: int = STATE_BYTES_MAX) -> bytes:
    """Return what `zlib.compress` was given; raise `zlib.error` if it is incomplete or larger than a bound.

    >>> decompressed(zlib.compress(b"state"))
    b'state'
    """
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(raw, bytes_max)
    if not unpacker.eof:
        raise zlib.error(f"the data are incomplete, or larger than {bytes_max >> 20} MiB")
    return data
