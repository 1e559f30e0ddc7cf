"""What is kept on the disk is what was signed, within a bound."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.model_registry import folder_digest
from services.model_registry.version_cache import TamperedError, VersionCache


def version(folder: Path, content: bytes = b"model") -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(content)
    return folder


class Registry:
    """Hands out one version and counts how often."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.fetched = 0

    def fetch(self, folder: Path) -> Path:
        self.fetched += 1
        return Path(shutil.copytree(self.source, folder / "files"))


def kept(store: VersionCache, digest: str, fetch: Callable[[Path], Path]) -> bytes:
    with store.opened(digest, fetch) as folder:
        return (folder / "deep" / "file").read_bytes()


@given(
    st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=4), max_size=3),
    st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=4), max_size=3),
)
def test_two_folders_have_the_same_digest_only_if_they_hold_the_same(tmp_path_factory, first, second):
    """Names and bytes count, and nothing flows from one into the other."""
    folders = []
    for files in (first, second):
        folder = tmp_path_factory.mktemp("contents")
        for name, content in files.items():
            (folder / name).write_bytes(content)
        folders.append(folder)
    assert (folder_digest.digest(folders[0]) == folder_digest.digest(folders[1])) == (first == second)


def test_link_has_no_digest(tmp_path: Path):
    """What it points at may change after it was verified."""
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(folder_digest.ContentsError, match="link is neither a regular file nor a folder"):
        folder_digest.digest(tmp_path)


def test_version_is_fetched_once(tmp_path: Path):
    """An evicted model is loaded again without the registry."""
    registry = Registry(version(tmp_path / "source"))
    digest = folder_digest.digest(registry.source)
    for _ in range(3):
        assert kept(VersionCache(tmp_path, 1 << 20), digest, registry.fetch) == b"model"
    assert registry.fetched == 1


def test_version_that_was_changed_on_the_disk_is_fetched_anew(tmp_path: Path):
    """It is verified at each load, not only at the first."""
    registry = Registry(version(tmp_path / "source"))
    digest = folder_digest.digest(registry.source)
    store = VersionCache(tmp_path, 1 << 20)
    kept(store, digest, registry.fetch)
    (tmp_path / "models" / digest / "deep" / "file").write_bytes(b"mobel")
    assert kept(store, digest, registry.fetch) == b"model"
    assert registry.fetched == 2


def test_version_that_is_not_what_was_signed_is_not_kept(tmp_path: Path):
    """Nothing of it stays on the disk."""
    registry = Registry(version(tmp_path / "source"))
    with pytest.raises(TamperedError, match="digest"):
        kept(VersionCache(tmp_path, 1 << 20), "ab" * 32, registry.fetch)
    assert list((tmp_path / "models").iterdir()) == []


def test_version_unused_for_longest_makes_room(tmp_path: Path):
    """The order is that of the last use, not of the download."""
    sources = [version(tmp_path / name, name.encode() * 100) for name in "abc"]
    digests = [folder_digest.digest(source) for source in sources]
    store = VersionCache(tmp_path, 250)
    for age, index in ((30, 0), (20, 1), (10, 0), (0, 2)):
        kept(store, digests[index], Registry(sources[index]).fetch)
        used = (tmp_path / "models" / digests[index]).stat().st_mtime - age
        os.utime(tmp_path / "models" / digests[index], (used, used))
    assert {path.name for path in (tmp_path / "models").iterdir()} == {digests[0], digests[2]}


def test_version_in_use_does_not_make_room(tmp_path: Path):
    """A folder in use is not deleted."""
    sources = [version(tmp_path / name, name.encode() * 100) for name in "ab"]
    digests = [folder_digest.digest(source) for source in sources]
    store = VersionCache(tmp_path, 50)
    with store.opened(digests[0], Registry(sources[0]).fetch) as folder:
        kept(store, digests[1], Registry(sources[1]).fetch)
        assert folder_digest.digest(folder) == digests[0]


@pytest.mark.parametrize("deletions", [1, 3])
def test_version_that_makes_room_before_it_is_opened_is_fetched_again(tmp_path: Path, deletions: int):
    """Another process may delete the folder between the fetch and the lock, or between two loads."""
    registry = Registry(version(tmp_path / "source"))
    digest = folder_digest.digest(registry.source)

    class Raced(VersionCache):
        def _fetch(self, folder: Path, fetch: Callable[[Path], Path]) -> None:
            super()._fetch(folder, fetch)
            if registry.fetched <= deletions:
                shutil.rmtree(folder)

    assert kept(Raced(tmp_path, 1 << 20), digest, registry.fetch) == b"model"
    assert registry.fetched == deletions + 1
