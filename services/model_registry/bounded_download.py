"""Downloads the files of a version, up to a size: neither the disk nor the memory is filled by a mistake."""

import posixpath
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES_MAX = 10_000
"""Maximum number of files and folders of a version."""
CHUNK_BYTES = 1 << 20

MIB = 1 << 20


class SizeError(ValueError):
    """Files are larger than allowed."""


class _Budget:
    """The bytes that may still be downloaded, by all threads together."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = self._bytes_left = bytes_max
        self._lock = threading.Lock()

    @property
    def is_exceeded(self) -> bool:
        return self._bytes_left < 0

    def take(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes_left -= size_bytes
        if self.is_exceeded:
            raise self.error()

    def error(self) -> SizeError:
        return SizeError(
            f"its files have more than {self._bytes_max // MIB} MiB, or they are more than {FILES_MAX}: "
            "register a smaller version, or raise DRIFTLINE_MODEL_VERSION_MIB_MAX"
        )


def download(uri: str, folder: Path, tracking_uri: str, bytes_max: int, file: str = "") -> Path:
    """Download the files at an artifact URI, or one of them, into a folder, and return the folder.

    The sizes that the store lists are added up first. What MLflow serves is counted while it arrives, too:
    its list may be wrong.

    Raises:
        SizeError: The files are larger than ``bytes_max``, or too many.
        MlflowException: The files cannot be downloaded.
    """
    from mlflow.store.artifact.artifact_repository_registry import (
        get_artifact_repository,  # late: imports MLflow, 3 s
    )
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    repository: Any = get_artifact_repository(uri, tracking_uri=tracking_uri)  # MLflow has no types here
    listed, budget = _Budget(bytes_max), _Budget(bytes_max)
    for number, found in enumerate(() if file else _files(repository)):
        if number >= FILES_MAX:
            raise listed.error()
        listed.take(found.file_size or 0)
    if isinstance(repository, HttpArtifactRepository):
        vars(repository)["_download_file"] = _counting(repository, budget)  # what a plugin for a store has
    try:
        repository.download_artifacts(file, str(folder))
    except Exception:
        if budget.is_exceeded:  # MLflow wraps the errors of its threads
            raise budget.error() from None
        raise
    return folder


def _files(repository: Any) -> Iterator[Any]:
    """Yield all files and folders; folders may be nested without an end."""
    folders: list[str | None] = [None]
    while folders:
        folder = folders.pop()
        for found in repository.list_artifacts(folder):
            yield found
            if found.is_dir and found.path not in (".", folder):
                folders.append(found.path)


def _counting(repository: Any, budget: _Budget) -> Any:
    """Return the method that downloads a file, as that of MLflow does, but counts what arrives."""
    from mlflow.utils import credentials, rest_utils

    rest: Any = rest_utils
    found: Any = credentials
    host = found.get_default_host_creds(repository.artifact_uri)

    def download_file(remote_file_path: str, local_path: str) -> None:
        endpoint = posixpath.join("/", remote_file_path)
        with rest.http_request(host, endpoint, "GET", stream=True) as response:
            rest.augmented_raise_for_status(response)
            with Path(local_path).open("wb") as file:
                for chunk in response.iter_content(chunk_size=CHUNK_BYTES):
                    budget.take(len(chunk))
                    file.write(chunk)

    return download_file
