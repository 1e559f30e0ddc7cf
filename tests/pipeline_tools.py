"""DVC and Prefect, in an environment of their own: they need no package of Driftline's."""

import fcntl
import os
import subprocess
import sys

from services.runtime.settings import ROOT
from tests.tools import tool

FOLDER = ROOT / ".venv-pipelines"
LOCK = ROOT / "requirements-pipelines.lock"
INSTALL_SECONDS_MAX = 1200


def search_path() -> str:
    """Return a PATH with DVC, Prefect and Driftline, which is beside Python.

    The environment is made on first use, and made again when the lock file has changed.
    """
    uv = tool("uv")
    with LOCK.open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one of the processes of pytest-xdist installs
        pinned = file.read()
        installed = FOLDER / "installed.txt"
        if not installed.is_file() or installed.read_text(encoding="utf-8") != pinned:
            _install(uv)
            installed.write_text(pinned, encoding="utf-8")
    return os.pathsep.join([str(FOLDER / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120  # Driftline's environment, not where its link leads


def _install(uv: str) -> None:
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(FOLDER)]
    fill = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes"]
    fill += ["--python", str(FOLDER / "bin" / "python"), str(LOCK)]
    for command in (make, fill):
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS_MAX)
