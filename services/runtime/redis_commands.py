"""Commands to Redis as the bytes that are sent: encoding, and reading them back. No I/O."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import hiredis

encode = cast("Callable[[tuple[str | bytes | float, ...]], bytes]", hiredis.pack_command)
"""Encode a tuple of name and arguments. The key must be the first argument, of EVALSHA the third."""

_REMEMBERED_LENGTHS = 1 << 14
"""Headers are kept for arguments shorter than this, in bytes: at most 16,384 of them."""
_SCRIPT = b"EVALSHA"


class _LengthHeaders(dict[int, bytes]):
    """The bytes before an argument, by the length of the argument: ``prefix`` and the length."""

    def __init__(self, prefix: bytes = b"") -> None:
        self._prefix = prefix

    def __missing__(self, size_bytes: int) -> bytes:
        header = self._prefix + b"$%d\r\n" % size_bytes
        if size_bytes < _REMEMBERED_LENGTHS:
            self[size_bytes] = header
        return header


class Template:
    """Encodes a command of which only some arguments change, several times as fast as `encode`."""

    def __init__(self, *arguments: str | bytes | int | None) -> None:
        """Take name and arguments; None marks an argument that changes."""
        texts = [_encode_argument(argument) for argument in arguments if argument is not None]
        given = iter(texts)
        pieces = [b"*%d\r\n" % len(arguments)]
        for argument in arguments:
            if argument is None:
                pieces += [b"", b"", b"\r\n"]
            else:
                pieces[-1] += next(given)
        self._pieces = pieces

    def encode(self, *values: bytes) -> bytes:
        """Return the command with these values, in order."""
        pieces = self._pieces.copy()
        pieces[1::3] = map(_HEADER_OF, map(len, values))
        pieces[2::3] = values
        return b"".join(pieces)


_HEADER_OF = _LengthHeaders().__getitem__


class KeyTemplate:
    """Encodes a command of which only the key, its first argument, changes; faster than `Template`."""

    def __init__(self, name: str, *arguments: str | bytes | int) -> None:
        """Take the name and the arguments that follow the key."""
        size = b"*%d\r\n" % (len(arguments) + 2)
        self._headers = _LengthHeaders(size + _encode_argument(name))
        self._tail = b"\r\n" + b"".join(map(_encode_argument, arguments))

    def encode(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return a command for each key."""
        headers, tail = self._headers, self._tail
        return [headers[len(key)] + key + tail for key in keys]


def _encode_argument(argument: str | bytes | int) -> bytes:
    return encode((argument,)).split(b"\r\n", 1)[1]


def key_of(command: bytes) -> bytes:
    """Return the key of an encoded command: the first argument, of EVALSHA the third."""
    *_, name, size, rest = command.split(b"\r\n", 4)
    if name == _SCRIPT:
        *_, size, rest = command.split(b"\r\n", 8)  # the digest and the number of keys come before the key
    return rest[: int(size[1:])]


def decode(commands: Sequence[bytes]) -> Iterator[tuple[str | bytes, ...]]:
    """Yield name and arguments of encoded commands, which have the form of replies."""
    reader = hiredis.Reader()
    for command in commands:
        reader.feed(command)
        name, *arguments = cast("list[bytes]", reader.gets())
        yield (name.decode(), *arguments)
