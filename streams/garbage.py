"""How rarely Python looks for cycles among containers."""

import gc

CONTAINERS = 100_000
"""Made and not yet freed, after which a collection begins."""


def collect_rarely() -> None:
    """Let the garbage collector rest, while modules are imported and while a slice is worked on.

    Both make tens of thousands of containers, which stay, or die by reference counting. With Python's
    default of a collection every 700, walks over all of them took a quarter of the imports' time (scoring,
    3.1 instead of 3.8 s) and a third of the work on slices (`bench/scoring.py`).
    """
    gc.set_threshold(CONTAINERS, 20, 100)


def settle() -> None:
    """Keep the collector away from what a process has imported and set up, and from most of the rest."""
    gc.collect()
    gc.freeze()
    collect_rarely()
