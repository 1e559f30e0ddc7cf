"""A version is loaded only with a valid signature, from the registry or from this machine."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from services.model_registry import (
    bounded_download,
    loading,
    mlflow_client,
    registration,
    signing,
    version_cache,
)
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.signed_tags import SignedTags
from services.runtime.settings import Settings
from streams.outages import OutageError
from tests.unit.model_registry.installation import GIVEN, classifier, columns, declaration, rows, settings


def test_version_without_tags_is_not_signed(tmp_path: Path):
    """The error says how to sign it."""
    with pytest.raises(signing.SigningError, match=r"not signed.*driftline models register"):
        loading.statement_of(settings(tmp_path), "m", {"driftline.flavour": "sklearn"})


class Installation:
    """A home with the files of one signed version, and a registry that may be away."""

    def __init__(self, home: Path) -> None:
        self.settings: Settings = settings(home, mlflow_uri="http://127.0.0.1:1")
        self.is_away = False
        self.source = "mlflow-artifacts:/1/run/artifacts/model"
        made = home / "made"
        made.mkdir()
        self.tags = registration.seal_estimator(
            self.settings, declaration(), GIVEN, classifier(), rows(), made
        )
        self.folder = home / version_cache.FOLDER / self.tags["driftline.digest"]
        shutil.copytree(made, self.folder)

    def connect(self, _settings: Settings) -> Any:
        return self

    def get_model_version(self, _model: str, _version: str) -> Any:
        if self.is_away:
            raise MlflowException("API request to http://127.0.0.1:1 failed with exception refused")
        return SimpleNamespace(tags=self.tags, name="m", version="1")

    def get_model_version_download_uri(self, _model: str, _version: str) -> str:
        return self.source

    def load(self, version: int = 1) -> Any:
        return loading.load_found(
            self.settings, declaration(), GIVEN, loading.find(self.settings, "m", version)
        ).model


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    found = Installation(tmp_path)
    monkeypatch.setattr(mlflow_client, "connect", found.connect)
    return found


def test_a_version_that_was_loaded_here_is_loaded_while_the_registry_is_away(installation: Installation):
    before = installation.load().predict(columns())
    installation.is_away = True
    assert (installation.load().predict(columns()) == before).all()


def test_a_version_that_was_never_loaded_here_is_an_outage(installation: Installation):
    installation.load()
    installation.is_away = True
    with pytest.raises(OutageError, match=r"m version 2: .* http://127.0.0.1:1 cannot be reached"):
        installation.load(2)


def test_kept_tags_are_verified_again(installation: Installation):
    """A key may have been withdrawn, or the file changed."""
    installation.load()
    installation.is_away = True
    SignedTags(installation.settings.home, "m").keep(1, installation.tags | {"driftline.flavour": "pyfunc"})
    with pytest.raises(RegistryError, match="its signature is not valid"):
        installation.load()


def test_kept_files_are_verified_again(installation: Installation):
    installation.load()
    installation.is_away = True
    (installation.folder / "another").write_text("file")
    with pytest.raises(OutageError, match="this machine has no verified copy"):
        installation.load()


def test_a_version_that_is_too_large_is_named_with_what_to_do(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
):
    def download(_uri: str, _folder: Path, _tracking_uri: str, bytes_max: int) -> Path:
        raise bounded_download.SizeError(f"more than {bytes_max} bytes")

    monkeypatch.setattr(bounded_download, "download", download)
    monkeypatch.setattr(installation, "tracking_uri", "http://127.0.0.1:1", raising=False)
    shutil.rmtree(installation.folder)
    with pytest.raises(RegistryError, match=f"m version 1: more than {2048 << 20} bytes"):
        installation.load()


@pytest.mark.parametrize("source", ["file:///etc", "http://169.254.169.254/latest", "/etc", "models:/m/1"])
def test_nothing_is_downloaded_from_where_a_writer_of_the_registry_points(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, source: str
):
    """The tags are those of a signed version, so the signature holds."""

    def download(*_given: object) -> Path:
        raise AssertionError("downloaded")

    monkeypatch.setattr(bounded_download, "download", download)
    shutil.rmtree(installation.folder)
    installation.source = source
    with pytest.raises(RegistryError, match=r"m version 1: its files are at .*, which is neither"):
        installation.load()
