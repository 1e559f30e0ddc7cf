"""Type checks of a library's functions, compiled when a function is first called instead of at the import.

Feast decorates its classes with `typeguard.typechecked`, which parses and compiles the module again for each
of 240 methods: 3.4 of the 4.7 s of CPU time that importing Feast takes. A process calls a few of them.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from typeguard import _decorators

Instrument = Callable[[Any], Any]
"""Returns a function with type checks, or a text that says why it cannot be checked."""


@contextlib.contextmanager
def late_checks() -> Iterator[None]:
    """Let what is imported in the block compile its type checks late; they check the same."""
    instrument = _decorators.instrument
    _decorators.instrument = functools.partial(_checked_when_called, instrument)
    try:
        yield
    finally:
        _decorators.instrument = instrument


def _checked_when_called(instrument: Instrument, function: Any) -> Any:
    @functools.cache
    def checked() -> Any:
        result = instrument(function)
        return function if isinstance(result, str) else result

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        return checked()(*arguments, **options)

    return call
