"""Names of headers as other clients write them."""

from typing import Any, Self


class RawName(str):  # noqa: SLOT000  # a str has no slots for the bytes
    """A name that kafka-python's producer writes as these bytes."""

    _raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        name = super().__new__(cls, "raw")
        name._raw = raw
        return name

    def encode(self, *_: Any) -> bytes:
        return self._raw
