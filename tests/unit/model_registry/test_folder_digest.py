"""A digest covers names and bytes of all files, and nothing else."""

import os
from pathlib import Path

import pytest

from services.model_registry import folder_digest
from services.model_registry.folder_digest import ContentsError


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_order_in_which_files_are_written_does_not_matter(tmp_path: Path):
    one = write(tmp_path / "one", {"a": b"1", "b/c": b"2"})
    other = write(tmp_path / "other", {"b/c": b"2", "a": b"1"})
    assert folder_digest.digest(one) == folder_digest.digest(other)


@pytest.mark.parametrize("files", [{"a": b"12"}, {"a": b"1", "b": b""}, {"b": b"1"}, {"b/a": b"1"}, {}])
def test_other_names_or_bytes_give_another_digest(tmp_path: Path, files: dict[str, bytes]):
    (tmp_path / "other").mkdir()
    one = write(tmp_path / "one", {"a": b"1"})
    assert folder_digest.digest(write(tmp_path / "other", files)) != folder_digest.digest(one)


def test_size_is_that_of_all_files(tmp_path: Path):
    assert folder_digest.size_bytes(write(tmp_path, {"a": b"123", "b/c": b"4"})) == 4


def test_special_file_has_no_digest(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContentsError, match="pipe is neither a regular file nor a folder"):
        folder_digest.digest(tmp_path)
