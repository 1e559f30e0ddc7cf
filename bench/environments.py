"""Virtual environments of contenders whose packages do not go with ours."""

import shutil
import subprocess
import sys
from pathlib import Path

CONTENDERS = Path(__file__).parent / "contenders"
FOLDER = Path(".bench") / "envs"
INSTALL_SECONDS_MAX = 600


def python_of(peer: str) -> str:
    """Return the interpreter with a peer's packages.

    They are those that ``contenders/<peer>/requirements.txt`` pins; they are installed on first use and
    when that file has changed.
    """
    pinned = (CONTENDERS / peer / "requirements.txt").read_text()
    folder = (FOLDER / peer).resolve()
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != pinned:
        _install(folder, CONTENDERS / peer / "requirements.txt")
        installed.write_text(pinned)
    return str(python)


def _install(folder: Path, requirements: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("bench: uv is needed to install a contender; make bench installs it")
    print(f"installing {requirements}", flush=True)
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
    fill = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(folder / "bin" / "python")]
    for command in (make, [*fill, str(requirements)]):
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS_MAX)
