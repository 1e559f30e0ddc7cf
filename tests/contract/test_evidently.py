"""An unmodified Evidently loads our snapshot, in the environment pinned for the bench and cached by pytest.

Importing Evidently takes 10 s of CPU, so this runs only with ``pytest -m outside``. What can break without a
change of Evidently is checked by `tests.unit.monitoring.reports.test_evidently_snapshot` in each run.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.monitoring.reports import evidently_snapshot
from services.runtime.settings import ROOT
from tests.tools import absent, tool
from tests.unit.monitoring.reports.windows import at
from tests.waiting import LIVENESS_SECONDS

PINNED = ROOT / "bench" / "contenders" / "evidently" / "requirements.txt"
READER = Path(__file__).parent / "evidently_reader.py"
INSTALL_SECONDS_MAX = 600


@pytest.fixture(scope="module")
def evidently_python(pytestconfig: pytest.Config) -> str:
    """Return an interpreter with Evidently, which requires an older pandas than Driftline."""
    uv = tool("uv")
    folder = Path(pytestconfig.cache.mkdir("evidently"))
    python, installed = folder / "env" / "bin" / "python", folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != PINNED.read_text():
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder / "env")]
        fill = [uv, "pip", "sync", "--quiet", "--python", str(python), str(PINNED)]
        for command in (make, fill):
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS_MAX
            )
            if done.returncode:
                absent(f"Evidently cannot be installed here: {done.stderr[-300:]}")
        installed.write_text(PINNED.read_text())
    return str(python)


@pytest.mark.outside
def test_evidently_loads_renders_and_writes_our_snapshot(evidently_python: str, tmp_path: Path) -> None:
    window = at(27)
    path = tmp_path / "snapshot.json"
    path.write_bytes(evidently_snapshot.as_snapshot(window))
    done = subprocess.run(
        [evidently_python, str(READER), str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIVENESS_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    values = {each["metric_name"]: each["value"] for each in answer.pop("metrics")}
    x = next(feature for feature in window.report.features if feature.feature == "x")
    assert values["ValueDrift(column=x,method=psi)"] == pytest.approx(x.psi)
    assert values["RowCount()"] == window.report.predictions
    assert answer == dict.fromkeys(answer, True)
