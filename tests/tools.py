"""Command-line tools that some tests need: what a test does without one, and what pytest says at the end."""

import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "chromium": "chromium",
    "node": "nodejs",
    "npm": "npm",
    "promtool": "prometheus",
    "shellcheck": "shellcheck",
}
"""By tool: the Debian package that holds it. Other tools come with `make setup`."""
_MISSING = re.compile(r"the tool (\S+) is missing")


def tool(name: str) -> str:
    """Return the path of a tool, also beside Python; skip the test if it is missing, or fail it in CI."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        absent(f"the tool {name} is missing")
    return path


def absent(message: str) -> NoReturn:
    """Skip the test and say what is missing; in CI, where nothing may be missing, fail."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def summary(reasons: Iterable[str]) -> str:
    """Return one line that names the tools for lack of which tests were skipped, empty if there is none."""
    names = [found[1] for reason in reasons if (found := _MISSING.search(reason))]
    if not names:
        return ""
    missing = sorted(set(names))
    packages = sorted({PACKAGES[name] for name in missing if name in PACKAGES})
    install = f"apt-get install {' '.join(packages)}" if packages else "make setup"
    return f"skipped for lack of {', '.join(missing)}: {len(names)} tests; install them with: {install}"
