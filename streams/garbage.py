"""Settings of Python's garbage collector."""

import gc

CONTAINERS = 100_000
"""Number of containers allocated and not freed that starts a collection."""


def collect_rarely() -> None:
    """Collect rarely, for imports and for the processing of slices.

    Both allocate tens of thousands of containers, which stay or are freed by reference counting. With
    Python's default of a collection every 700 containers, collections took a quarter of the time of imports
    (scoring: 3.1 s without, 3.8 s with) and a third of the processing of slices (`bench/scoring.py`).
    """
    gc.set_threshold(CONTAINERS, 20, 100)


def settle() -> None:
    """Exclude all objects that exist after the start of a process from collections, and collect rarely."""
    gc.collect()
    gc.freeze()
    collect_rarely()
