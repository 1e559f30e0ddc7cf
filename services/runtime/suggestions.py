"""Hints at the name that somebody probably meant. Pure."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a hint at the most similar of the known names, or at all of them.

    >>> suggestion("amuont", ["amount", "device"])
    ' (did you mean amount?)'
    >>> suggestion("day", ["amount", "device"])
    '; known are amount, device'
    """
    names = list(known)
    near = nearest(name, names)
    return f" (did you mean {near}?)" if near else f"; known are {', '.join(names) or 'none'}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the most similar of the known names; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)
