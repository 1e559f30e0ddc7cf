"""No more is downloaded than a version may have, whatever the server says of its size."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow.entities import FileInfo

from services.model_registry import bounded_download
from services.model_registry.bounded_download import SizeError, download, download_from

URI = "mlflow-artifacts:/1/run/artifacts/model"
ROOT = "1/run/artifacts/model"
KIB = 1 << 10


class Server(ThreadingHTTPServer):
    """Serves the listed files, of any size, as MLflow does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = ROOT
        """Path of the folder that is downloaded, or of the only file."""
        self.listed: dict[str, list[tuple[str, bool, int]]] = {}
        """Name, whether it is a folder, and alleged size, by folder."""
        self.sizes: dict[str, int] = {}
        """Real sizes in KiB by path."""
        self.sent = 0
        """KiB that were sent."""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = url.path.partition("/mlflow-artifacts/artifacts")[2].strip("/")
        root = self.server.root
        if not path:
            folder = parse_qs(url.query)["path"][0].removeprefix(root).strip("/")
            files = [
                {"path": name, "is_dir": is_dir, "file_size": size}
                for name, is_dir, size in self.server.listed.get(folder, [])
            ]
            self._answer(json.dumps({"files": files}).encode())
            return
        self.send_response(200)
        self.end_headers()
        for _ in range(self.server.sizes[path.removeprefix(root).strip("/")]):
            try:
                self.wfile.write(b"0" * KIB)
            except OSError:  # the client has enough
                return
            self.server.sent += 1

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_files_in_folders_are_downloaded(server: Server, tmp_path: Path) -> None:
    server.listed = {"": [("a", False, 2 * KIB), ("b", True, 0)], "b": [("c", False, 3 * KIB)]}
    server.sizes = {"a": 2, "b/c": 3}
    assert download(URI, tmp_path, server.uri, 5 * KIB) == tmp_path
    sizes = {
        path.relative_to(tmp_path).as_posix(): path.stat().st_size
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert sizes == {"a": 2 * KIB, "b/c": 3 * KIB}


def test_nothing_is_downloaded_of_files_that_are_listed_as_too_large(server: Server, tmp_path: Path) -> None:
    server.listed = {"": [("a", False, 3 * KIB), ("b", False, 3 * KIB)]}
    server.sizes = {"a": 3, "b": 3}
    with pytest.raises(SizeError, match="raise DRIFTLINE_MODEL_VERSION_MIB_MAX"):
        download(URI, tmp_path, server.uri, 5 * KIB)
    assert (server.sent, list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("files", [1, 3])
def test_a_download_ends_at_the_limit_although_the_list_is_wrong(
    server: Server, tmp_path: Path, files: int
) -> None:
    """100 GiB would be sent."""
    server.listed = {"": [(f"f{number}", False, 1) for number in range(files)]}
    server.sizes = {f"f{number}": 100 << 20 for number in range(files)}
    with pytest.raises(SizeError, match="more than 4 MiB"):
        download(URI, tmp_path, server.uri, 4 << 20)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 << 20


@pytest.mark.parametrize("size_kib", [2, 100 << 20])
@pytest.mark.parametrize("path", ["model", "model.skops"])
def test_what_is_imported_is_counted_as_well(
    server: Server, tmp_path: Path, path: str, size_kib: int
) -> None:
    """A folder or a file of a run, whatever its list says."""
    uri = f"{URI.removesuffix('/model')}/{path}"
    server.root = f"1/run/artifacts/{path}"
    server.listed = {"": [("a", False, 1)] if path == "model" else []}
    server.sizes = {"a": size_kib, "": size_kib}
    if size_kib > 4:
        with pytest.raises(SizeError):
            download_from(uri, tmp_path, server.uri, 4 * KIB)
        return
    found = download_from(uri, tmp_path, server.uri, 4 * KIB)
    assert found == tmp_path / path
    assert (found / "a" if path == "model" else found).stat().st_size == size_kib * KIB


@pytest.mark.parametrize("bytes_max", [8 * KIB, 5 * KIB])
@pytest.mark.parametrize("scheme", ["runs", "folder"])
def test_files_of_a_store_are_counted_although_the_list_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, bytes_max: int
) -> None:
    """MLflow passes on what a run holds, and drops the errors."""
    from mlflow import MlflowClient
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
    run = client.create_run(experiment).info
    for name in ("a", "b"):
        source = tmp_path / name
        source.write_bytes(b"0" * 3 * KIB)
        client.log_artifact(run.run_id, str(source), "model")
    honest = LocalArtifactRepository.list_artifacts
    monkeypatch.setattr(
        LocalArtifactRepository,
        "list_artifacts",
        lambda self, path=None: [FileInfo(each.path, each.is_dir, 1) for each in honest(self, path)],
    )
    uri = f"runs:/{run.run_id}/model" if scheme == "runs" else f"{run.artifact_uri}/model"
    folder = tmp_path / "downloaded"
    folder.mkdir()
    if bytes_max < 6 * KIB:
        with pytest.raises(SizeError):
            download_from(uri, folder, client.tracking_uri, bytes_max)
        return
    found = download_from(uri, folder, client.tracking_uri, bytes_max)
    assert {each.name for each in found.iterdir()} == {"a", "b"}


def test_a_folder_without_an_end_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_download, "FILES_MAX", 20)
    server.listed = {"": [("d", True, 0)]} | {
        "/".join("d" * depth): [("d", True, 0)] for depth in range(1, 99)
    }
    with pytest.raises(SizeError, match="or they are more than 20"):
        download(URI, tmp_path, server.uri, 1 << 20)


@pytest.mark.parametrize("size_kib", [2, 100 << 20])
def test_one_file_is_counted_as_well(server: Server, tmp_path: Path, size_kib: int) -> None:
    server.sizes = {"a": size_kib}
    if size_kib > 4:
        with pytest.raises(SizeError):
            download(URI, tmp_path, server.uri, 4 * KIB, "a")
        return
    download(URI, tmp_path, server.uri, 4 * KIB, "a")
    assert (tmp_path / "a").stat().st_size == size_kib * KIB
