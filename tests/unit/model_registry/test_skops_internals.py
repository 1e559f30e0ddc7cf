"""skops trusts the same types however it was imported."""

import subprocess
import sys

SCRIPT = """
import sys
from services.model_registry import loading_process, skops_internals

def trusted():
    found = sys.modules["skops.io._trusted_types"]
    return {name: sorted(value) for name, value in vars(found).items() if name.endswith("_TYPE_NAMES")}

skops_internals.skops_io()
assert not {"dask", "pytest"} & sys.modules.keys()
quick = trusted()
for name in [name for name in sys.modules if name.partition(".")[0] == "skops"]:
    del sys.modules[name]
import dask, pytest
import skops.io
assert len(quick["SKLEARN_ESTIMATOR_TYPE_NAMES"]) > 100 and len(quick["SCIPY_UFUNC_TYPE_NAMES"]) > 100
assert quick == trusted()
"""


def test_a_cheap_import_trusts_the_same_types() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
