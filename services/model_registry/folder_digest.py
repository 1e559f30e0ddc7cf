"""The digest and the size of a folder's files."""

import hashlib
from pathlib import Path


class ContentsError(ValueError):
    """A folder holds a link or a special file."""


def digest(folder: Path) -> str:
    """Return the SHA-256, in hex, of the sorted paths and the bytes of all files below a folder.

    Raises `ContentsError` for a link or a special file, because its contents could change later.
    """
    whole = hashlib.sha256()
    for path in _files(folder):
        name = path.relative_to(folder).as_posix().encode()
        with path.open("rb") as file:
            digest_of_file = hashlib.file_digest(file, "sha256").digest()
        whole.update(len(name).to_bytes(4, "big") + name + digest_of_file)
    return whole.hexdigest()


def size_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
    for path in found:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ContentsError(
                f"{path.relative_to(folder)} is neither a regular file nor a folder: remove it"
            )
    return [path for path in found if path.is_file()]
