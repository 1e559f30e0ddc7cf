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
    its list may be wrong. What an object store serves is counted file by file: it lists what it holds.

    Raises:
        SizeError: The files are larger than ``bytes_max``, or too many.
        MlflowException: The files cannot be downloaded.
    """
    from mlflow.store.artifact.artifact_repository_registry import (
        get_artifact_repository,  # late: imports MLflow, 3 s
    )

    _download(get_artifact_repository(uri, tracking_uri=tracking_uri), file, folder, bytes_max)
    return folder


def download_from(uri: str, folder: Path, tracking_uri: str, bytes_max: int) -> Path:
    """Download a file or a folder at a URI as people write it; return its path. Errors: see `download`."""
    from mlflow.tracking import artifact_utils  # late: imports MLflow, 3 s

    utils: Any = artifact_utils
    root, path = utils._get_root_uri_and_artifact_path(uri)  # noqa: SLF001  # as MLflow's own downloads do
    repository = utils.get_artifact_repository(artifact_uri=root, tracking_uri=tracking_uri)
    return Path(_download(repository, path, folder, bytes_max))


def _download(repository: Any, path: str, folder: Path, bytes_max: int) -> str:
    """Download a file or a folder of a repository of MLflow, which has no types here; return its path."""
    listed, budget = _Budget(bytes_max), _Budget(bytes_max)
    for number, found in enumerate(_files(repository, path)):
        if number >= FILES_MAX:
            raise listed.error()
        listed.take(found.file_size or 0)
    _count_files(repository, budget)
    try:
        downloaded: str = repository.download_artifacts(path, str(folder))
    except Exception:
        if budget.is_exceeded:  # MLflow wraps the errors of its threads
            raise budget.error() from None
        raise
    if budget.is_exceeded:  # or drops them
        raise budget.error()
    return downloaded


def _files(repository: Any, path: str) -> Iterator[Any]:
    """Yield all files and folders below a path; folders may be nested without an end."""
    folders: list[str | None] = [path or None]
    while folders:
        folder = folders.pop()
        for found in repository.list_artifacts(folder):
            yield found
            if found.is_dir and found.path not in (".", folder):
                folders.append(found.path)


def _count_files(repository: Any, budget: _Budget) -> None:
    """Let a repository count what it downloads, and those to which it passes the work."""
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    own = vars(repository)  # an attribute of the instance takes precedence, as that of a plugin for a store
    if "repo" in own:  # of a registered version or a run
        _count_files(own["repo"], budget)
        _count_logged_models(repository, budget)
    elif isinstance(repository, HttpArtifactRepository):
        own["_download_file"] = _counting(repository, budget)
    else:
        own["_download_file"] = _counting_afterwards(repository, budget)


def _count_logged_models(repository: Any, budget: _Budget) -> None:
    """Count downloads from the repositories of logged models, too: each model has a separate one."""
    find = getattr(repository, "_get_logged_model_artifact_repo", None)

    def counted(*arguments: Any, **named: Any) -> Any:
        found = None if find is None else find(*arguments, **named)
        if found is not None:
            _count_files(found, budget)
        return found

    vars(repository)["_get_logged_model_artifact_repo"] = counted


def _counting_afterwards(repository: Any, budget: _Budget) -> Any:
    """Return the method that downloads a file, but counts it when it is there."""
    download: Any = repository._download_file  # noqa: SLF001  # what each repository of MLflow has

    def download_file(remote_file_path: str, local_path: str) -> None:
        if budget.is_exceeded:
            raise budget.error()
        download(remote_file_path, local_path)
        budget.take(Path(local_path).stat().st_size)

    return download_file


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
