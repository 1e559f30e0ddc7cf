"""What a folder holds, as one digest and one size."""

import hashlib
from pathlib import Path


class ContentsError(ValueError):
    """A folder holds something that is no plain file."""


def digest(folder: Path) -> str:
    """Return the SHA-256, in hex, of all files below a folder: of their sorted paths and their bytes.

    Raises `ContentsError` for a link or a special file, through which the contents could change later.
    """
    whole = hashlib.sha256()
    for path in _files(folder):
        name = path.relative_to(folder).as_posix().encode()
        with path.open("rb") as file:
            own = hashlib.file_digest(file, "sha256").digest()
        whole.update(len(name).to_bytes(4, "big") + name + own)
    return whole.hexdigest()


def size_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
    for path in found:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ContentsError(f"{path.relative_to(folder)} is neither a file nor a folder")
    return [path for path in found if path.is_file()]
