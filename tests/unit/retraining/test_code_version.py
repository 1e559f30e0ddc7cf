"""The code of a run is told as far as it is known."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from services.retraining import code_version
from services.runtime.settings import Settings


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=tests", "-c", "user.email=tests@driftline.example")
    command = ["git", "-C", str(folder), *author, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def test_the_commit_of_a_folder_and_whether_it_has_changes(tmp_path: Path) -> None:
    git(tmp_path, "init")
    models = tmp_path / "models"
    models.mkdir()
    (models / "training.py").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = code_version.git_commit(models)
    assert len(commit) == 40
    (tmp_path / "elsewhere.py").write_text("")
    assert code_version.git_commit(models) == commit
    (models / "training.py").write_text("two")
    assert code_version.git_commit(models) == f"{commit}+changes"


def test_what_is_not_known_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "requirements.lock"
    monkeypatch.setattr(code_version, "LOCK_FILE", lock)
    settings = Settings(models=tmp_path)
    found = code_version.of_installation(settings)
    assert found.keys() == {"version"}
    lock.write_bytes(b"numpy==2.0")
    found = code_version.of_installation(settings)
    assert found["lock_sha256"] == hashlib.sha256(b"numpy==2.0").hexdigest()
