"""Versions on this machine's disk, by their digest: what was verified once is not downloaded again."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from services.model_registry import folder_digest

log = structlog.get_logger()

FOLDER = "models"
INCOMING = ".incoming-"

Fetch = Callable[[Path], Path]
"""Downloads a version somewhere below an empty folder; returns the folder of its files."""


class TamperedError(RuntimeError):
    """What was fetched is not what was signed."""


class Store:
    """Folders named by the digests of their contents, those unused for longest making room.

    Several processes may share it: a folder in use is locked, and appears whole or not at all.
    """

    def __init__(self, home: Path, bytes_max: int) -> None:
        """Keep about so much; the version that is in use stays, however large."""
        self._folder = home.resolve() / FOLDER
        self._bytes_max = bytes_max

    @contextlib.contextmanager
    def opened(self, digest: str, fetch: Fetch) -> Iterator[Path]:
        """Yield the folder of this digest, verified now and kept for the length of the block.

        What was changed on the disk since it was kept is thrown away and fetched anew. Raises
        `TamperedError` when what is fetched has another digest, and whatever ``fetch`` raises.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / digest
        if not self._is_sound(place):
            self._fetch(place, fetch)
        with _locked(place):
            os.utime(place)
            yield place
        with contextlib.suppress(FileNotFoundError):  # another process makes room as well
            self._make_room()

    def _is_sound(self, place: Path) -> bool:
        if not place.is_dir():
            return False
        try:
            found = folder_digest.digest(place)
        except (folder_digest.ContentsError, OSError) as error:
            found = str(error)
        if found == place.name:
            return True
        log.error("version.changed_on_disk", folder=str(place), found=found)
        shutil.rmtree(place, ignore_errors=True)
        return False

    def _fetch(self, place: Path, fetch: Fetch) -> None:
        with tempfile.TemporaryDirectory(prefix=INCOMING, dir=self._folder) as name:
            fetched = fetch(Path(name))
            try:
                found = folder_digest.digest(fetched)
            except folder_digest.ContentsError as error:
                raise TamperedError(str(error)) from error
            if found != place.name:
                raise TamperedError(f"the files have the digest {found[:12]}, not {place.name[:12]}")
            try:
                fetched.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
                # Another one was faster; its copy has the same digest.

    def _make_room(self) -> None:
        held = [path for path in self._folder.iterdir() if not path.name.startswith(INCOMING)]
        sizes = {path: folder_digest.size_bytes(path) for path in held}
        excess = sum(sizes.values()) - self._bytes_max
        for path in sorted(held, key=lambda path: path.stat().st_mtime)[:-1]:
            if excess <= 0:
                return
            with contextlib.suppress(OSError), _locked(path, alone=True):
                shutil.rmtree(path)
                excess -= sizes[path]


@contextlib.contextmanager
def _locked(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold a folder: shared by all that load from it, or alone, at once or not at all."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
