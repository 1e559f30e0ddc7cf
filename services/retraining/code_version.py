"""Which code a model was trained with, for the tags of its run."""

import hashlib
import importlib.metadata
import subprocess
from pathlib import Path

from services.runtime.settings import ROOT, Settings

LOCK_FILE = ROOT / "requirements.lock"
GIT_SECONDS_MAX = 10.0


def of_installation(settings: Settings) -> dict[str, str]:
    """Return Driftline's version, the digest of its lock file, and the Git commit of the models' folder.

    What is not known is left out: a package has no lock file, and a folder need not be in a repository.
    """
    found = {"version": _package_version(), "git_commit": git_commit(settings.models)}
    if LOCK_FILE.is_file():
        found["lock_sha256"] = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    return {name: value for name, value in found.items() if value}


def _package_version() -> str:
    try:
        return importlib.metadata.version("driftline")
    except importlib.metadata.PackageNotFoundError:
        return ""


def git_commit(folder: Path) -> str:
    """Return the commit that is checked out in a folder; with ``+changes`` if files in it differ from it.

    Empty if the folder is in no repository, or there is no Git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    return f"{commit}+changes" if commit and _git(folder, "status", "--porcelain", "--", ".") else commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        found = subprocess.run(  # noqa: S603  # no shell; the folder is an argument of -C
            command, capture_output=True, text=True, timeout=GIT_SECONDS_MAX, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
