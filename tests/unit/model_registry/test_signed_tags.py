"""The tags of loaded versions are kept on the disk, and an unreadable file is none."""

import os
from pathlib import Path

import pytest

from services.model_registry import signed_tags
from services.model_registry.mlflow_client import SIGNED_TAGS
from services.model_registry.signed_tags import SignedTags

TAGS = dict.fromkeys(SIGNED_TAGS, "x")


def test_only_the_signed_tags_of_a_version_are_kept(tmp_path: Path):
    kept = SignedTags(tmp_path, "m")
    kept.keep(3, TAGS | {"note": "ours"})
    assert SignedTags(tmp_path, "m").read(3) == TAGS
    assert kept.read(4) is None
    assert SignedTags(tmp_path, "n").read(3) is None


def test_a_file_that_cannot_be_read_is_as_if_it_were_absent(tmp_path: Path):
    kept = SignedTags(tmp_path, "m")
    kept.keep(3, TAGS)
    (tmp_path / signed_tags.FOLDER / "m" / "3.json").write_bytes(b'{"driftline.digest":')
    assert kept.read(3) is None


def test_a_disk_that_refuses_the_tags_does_not_refuse_the_version(tmp_path: Path):
    (tmp_path / signed_tags.FOLDER).write_text("no folder")
    SignedTags(tmp_path, "m").keep(3, TAGS)


def test_the_number_of_kept_versions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signed_tags, "VERSIONS_MAX", 2)
    kept = SignedTags(tmp_path, "m")
    for version in (1, 2, 3):
        kept.keep(version, TAGS)
        os.utime(tmp_path / signed_tags.FOLDER / "m" / f"{version}.json", (version, version))
    kept.keep(4, TAGS)
    assert [version for version in range(1, 5) if kept.read(version)] == [3, 4]
