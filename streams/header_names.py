"""Names of headers that are no text: Kafka stores any bytes there, and its clients differ.

Kafka's Java client reads such a name with replaced characters. aiokafka and kafka-python raise an error for
the record, at each attempt: its partition would not be read any further. Here each byte beyond ASCII of such
a name is read as ``?``, and the record is taken as all others: no header of ours has such a name.
"""

from typing import Any

from streams.varint import read_varint

_REPLACED = bytes(range(0x80)) + b"?" * 0x80


class MendsHeaderNames:
    """Mixin for the record batch of either client: reads records whatever the bytes of their headers' names.

    Both clients decode in Python with the same three members, of which kafka-python's are the original.
    """

    _buffer: bytearray
    """The records of the batch, without compression."""
    _pos: int
    """The start of the next record; a record that cannot be read leaves it there."""

    def _read_msg(self) -> Any:
        read = super()._read_msg  # type: ignore[misc]  # a method of the client's class
        try:
            return read()
        except UnicodeDecodeError:
            mend(self._buffer, self._pos)
            return read()


def mend(buffer: bytearray, start: int) -> None:
    """Replace the bytes beyond ASCII in names of headers that are no UTF-8, in the record that starts there.

    The layout is that of message format 2: length, attributes, timestamp, offset, key, value, headers.
    """
    pos = start
    for _ in range(4):
        _, pos = _varint(buffer, pos)
    for _ in range(2):
        pos = _after_bytes(buffer, pos)
    count, pos = _varint(buffer, pos)
    for _ in range(count):
        length, pos = _varint(buffer, pos)
        name = buffer[pos : pos + length]
        if not _is_text(name):
            buffer[pos : pos + length] = name.translate(_REPLACED)
        pos = _after_bytes(buffer, pos + length)


def _is_text(name: bytearray) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _after_bytes(buffer: bytearray, pos: int) -> int:
    """Return the end of a key or value; one without bytes has the length -1."""
    length, pos = _varint(buffer, pos)
    return pos + max(length, 0)


def _varint(buffer: bytearray, pos: int) -> tuple[int, int]:
    """Return a number of variable length in zigzag encoding, and its end."""
    value, pos = read_varint(buffer, pos)
    return (value >> 1) ^ -(value & 1), pos
