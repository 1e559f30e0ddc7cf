"""How long to wait before something that has failed is tried again."""

_DOUBLINGS_MAX = 30


def pause_seconds(failures: int, shortest: float, longest: float) -> float:
    """Return the pause after a number of failures in a row: ``shortest`` after one, doubled after each next.

    >>> [pause_seconds(failures, 0.5, 3.0) for failures in (1, 2, 3, 4, 1000)]
    [0.5, 1.0, 2.0, 3.0, 3.0]
    """
    return min(longest, shortest * 2.0 ** min(failures - 1, _DOUBLINGS_MAX))
