"""Whole numbers of variable length, as Protocol Buffers and Kafka's records write them."""


def read_varint(raw: bytes | bytearray, position: int) -> tuple[int, int]:
    """Return the unsigned number that begins at a position, and its end; raise `IndexError` if it is cut off.

    >>> read_varint(bytes([0xAC, 0x02]), 0)
    (300, 2)
    """
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
