"""The number of threads with which libraries compute: one, wherever a model is trained.

Sums in another order differ in their last bits, so another number of threads gives another model.
"""

import os
from collections.abc import MutableMapping

OPENMP = "OMP_NUM_THREADS"
OTHERS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of the libraries of linear algebra, which prefer their own to that of OpenMP."""


def limit(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let libraries use one thread, or as many as the variable of OpenMP says if it is set.

    Libraries read the variables when they are loaded: call this before anything imports NumPy.
    """
    count = environment.setdefault(OPENMP, "1")
    for name in OTHERS:
        environment.setdefault(name, count)
