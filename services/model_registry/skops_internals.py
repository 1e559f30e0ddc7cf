"""A cheaper import of skops, with the same list of trusted types.

For this list skops imports every package of scikit-learn. Two of them import Dask and pytest if these are
installed, and neither has an estimator. Then skops searches all loaded modules for each function of
`scipy.special`, in the order of their import: it finds them early if `scipy.special` was imported early.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

UNUSED = ("dask", "pytest")
"""Libraries that scikit-learn imports for arrays of Dask and for its own tests."""


def skops_io() -> Any:
    """Return the module ``skops.io``; the first call takes 2 s of CPU time."""
    if "skops.io" not in sys.modules:
        with _absent(UNUSED):
            importlib.import_module("skops.io")
    return sys.modules["skops.io"]


@contextlib.contextmanager
def _absent(names: tuple[str, ...]) -> Iterator[None]:
    """Let the import of these libraries fail in the block, except of those that are loaded already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # Python's own mark of an absent module
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
