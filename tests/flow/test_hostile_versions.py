"""Versions that would run code where stock MLflow loads them: none does here, and the old version goes on."""

import asyncio
import contextlib
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.model_registry import folder_digest, mlflow_client, registration, signing
from services.model_registry import loading as versions_loading
from services.runtime.settings import Settings
from services.scoring import version_loaders
from services.scoring.model_cache import ModelCache
from services.scoring.model_versions import ModelVersions
from services.scoring.thread_limits import ThreadLimits
from streams.outages import OutageError
from streams.records import Arm, ModelChanged
from tests.unit.model_registry.installation import GIVEN, classifier, declaration, rows
from tests.waiting import LIVENESS_SECONDS

LOAD = """
import sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
for uri in sys.argv[2:]:
    try:
        mlflow.pyfunc.load_model(uri)
    except Exception as error:
        print(uri, repr(error))
"""
LOADER = """
from pathlib import Path


def _load_pyfunc(path):
    Path({marker!r}).touch()
    return Path(path)
"""
ESTIMATOR = """
from pathlib import Path


class Estimator:
    def __init__(self):
        self.fitted = True

    def predict(self, rows):
        return rows

    def __setstate__(self, state):
        Path({marker!r}).touch()
"""


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


class World:
    """A model of which one good version answers, and whoever may write to the registry."""

    def __init__(self, mlflow_uri: str, name: str, folder: Path) -> None:
        self.settings = Settings().model_copy(update={"mlflow_uri": mlflow_uri, "home": folder / "home"})
        self.folder = folder
        self.name = name
        self.declaration = declaration(name=name)
        self.client = mlflow_client.connect(self.settings)

    def good(self, name: str = "") -> tuple[int, Mapping[str, str]]:
        """Register a version as it should be, of this model or another; return it with its tags."""
        name = name or self.name
        folder = self.folder / f"good-{len(list(self.folder.iterdir()))}"
        tags = registration.seal_estimator(
            self.settings, declaration(name=name), GIVEN, classifier(), rows(), folder
        )
        return registration.register(self.settings, name, folder, tags), tags

    def smuggle(self, folder: Path, tags: Mapping[str, str]) -> int:
        """Register what is in a folder, with any tags."""
        return registration.register(self.settings, self.name, folder, tags)

    def signed(self, folder: Path, flavour: str) -> dict[str, str]:
        """Return the tags with which somebody careless, or hostile, who has the key would register it."""
        statement = signing.Statement(self.name, flavour, folder_digest.digest(folder))
        values = (statement.digest, flavour, signing.sign(self.settings, statement))
        return dict(zip(mlflow_client.SIGNED_TAGS, values, strict=True))

    def refusal(self, good: int, version: int) -> str:
        """Serve a good version, change to another; return why that is not in use."""
        return asyncio.run(self._refusal(good, version))

    async def _refusal(self, good: int, version: int) -> str:
        load = version_loaders.loader_factory(self.settings)(self.declaration, GIVEN)
        models = ModelVersions(self.name, load, ModelCache(1 << 20), ThreadLimits(1))
        before = self.load_failures()
        async with models.running():
            for each in (good, version):
                models.change(
                    ModelChanged(
                        model=self.name,
                        arms=[Arm(name="champion", version=each, weight=10_000)],
                        changed_at_ms=0,
                        reason="test",
                    )
                )
                await models.settled()
            assert models.router.versions == {good}
            answer = (await models.loaded.get(good)).model.predict({"x": np.ones(1), "noise": np.zeros(1)})
        assert 0.5 < answer[0] < 1
        assert self.load_failures() == before + 1
        assert models.fault is not None
        return models.fault

    def load_failures(self) -> float:
        return REGISTRY.get_sample_value("driftline_model_load_failures_total", {"model": self.name}) or 0.0


@pytest.fixture
def world(mlflow: str, unique_name: str, tmp_path: Path) -> World:
    return World(mlflow, unique_name, tmp_path)


def pickled(folder: Path, marker: Path) -> Path:
    """An honest scikit-learn model of MLflow's, its pickle replaced."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    mlflow.sklearn.save_model(
        classifier(),
        str(folder),
        serialization_format="cloudpickle",
        signature=infer_signature(rows()),
        pip_requirements=["scikit-learn"],
    )
    (folder / "model.pkl").write_bytes(pickle.dumps(Touch(marker)))
    return folder


def with_loader(folder: Path, marker: Path) -> Path:
    """A model without any pickle, whose MLmodel names a module that it brings along."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    module = folder.with_name("hostile_loader.py")
    module.write_text(LOADER.format(marker=str(marker)))
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module="hostile_loader",
        code_paths=[str(module)],
        data_path=str(module),
        signature=infer_signature(rows()),
        pip_requirements=["pandas"],
    )
    return folder


def with_type(folder: Path, marker: Path) -> Path:
    """A skops file with a type that its own MLmodel declares to be trusted."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    module = folder.with_name("hostile_type.py")
    module.write_text(ESTIMATOR.format(marker=str(marker)))
    sys.path.insert(0, str(module.parent))
    try:
        import hostile_type  # type: ignore[import-not-found]  # written just now

        mlflow.sklearn.save_model(
            hostile_type.Estimator(),
            str(folder),
            serialization_format="skops",
            skops_trusted_types=["hostile_type.Estimator"],
            code_paths=[str(module)],
            signature=infer_signature(rows()),
            pip_requirements=["scikit-learn"],
        )
    finally:
        sys.path.pop(0)
    marker.unlink()  # MLflow reads it back, and so has run it already
    return folder


HOSTILE: Mapping[str, tuple[Callable[[Path, Path], Path], str, str]] = {
    "pickle": (pickled, "sklearn", "its file model.skops is missing"),
    "loader": (with_loader, "pyfunc", "its team 'risk' is not in DRIFTLINE_TRUSTED_TEAMS"),
    "type": (with_type, "sklearn", "Untrusted types found in the file: ['hostile_type.Estimator']"),
}
"""Function that makes it, flavour that it claims, and the error that stops it even if it is signed."""


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path, Path]]:
    """The kind, the folder and the file that shows that its code has run."""
    marker = tmp_path / "it-ran"
    (tmp_path / "hostile").mkdir()
    make = HOSTILE[request.param][0]
    yield request.param, make(tmp_path / "hostile" / "model", marker), marker
    sys.modules.pop("hostile_type", None)


def test_code_of_a_model_runs_in_stock_mlflow_and_not_here(
    world: World, hostile: tuple[str, Path, Path]
) -> None:
    """Unsigned it is not even read; signed by mistake it is stopped by what its flavour may do."""
    kind, folder, marker = hostile
    _, flavour, stopped_by = HOSTILE[kind]
    good, _ = world.good()
    unsigned = world.smuggle(folder, {})
    signed = world.smuggle(folder, world.signed(folder, flavour))

    refusals = world.refusal(good, unsigned), world.refusal(good, signed)

    assert not marker.exists()
    assert f"{world.name} version {unsigned}: it is not signed" in refusals[0]
    assert "register it again with 'driftline models register'" in refusals[0]
    assert f"{world.name} version {signed}: " in refusals[1]
    assert stopped_by in refusals[1]

    command = [sys.executable, "-c", LOAD, world.settings.mlflow_uri, f"models:/{world.name}/{signed}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert marker.exists(), f"stock MLflow did not run it: {done.stdout}{done.stderr}"


def test_file_that_was_replaced_after_the_registration_is_found(world: World, tmp_path: Path) -> None:
    """Whoever may write to the artifacts cannot change what answers."""
    good, _ = world.good()
    replaced, _ = world.good()
    run_id = world.client.get_model_version(world.name, str(replaced)).run_id
    import skops.io

    skops.io.dump(classifier(1 - (rows()["x"] > 0)), tmp_path / "model.skops")
    world.client.log_artifact(run_id, str(tmp_path / "model.skops"), registration.FOLDER)

    refusal = world.refusal(good, replaced)

    assert f"{world.name} version {replaced}: its files have the digest" in refusal
    assert "changed after it was registered" in refusal


def test_version_kept_on_the_disk_needs_no_artifacts_and_is_verified_at_each_load(world: World) -> None:
    """What was changed on the disk is fetched anew: the artifacts are still what was signed."""
    good, tags = world.good()
    load = version_loaders.loader_factory(world.settings)(world.declaration, GIVEN)
    first = load(world.name, good).model.predict({"x": np.ones(1), "noise": np.zeros(1)})
    kept = world.settings.home / "models" / tags[mlflow_client.SIGNED_TAGS[0]]
    (kept / "model.skops").write_bytes(pickle.dumps(Touch(world.folder / "it-ran")))

    again = load(world.name, good).model.predict({"x": np.ones(1), "noise": np.zeros(1)})

    assert again == first
    assert folder_digest.digest(kept) == kept.name
    run_id = world.client.get_model_version(world.name, str(good)).run_id
    world.client.log_text(run_id, "changed", f"{registration.FOLDER}/MLmodel")
    assert load(world.name, good).model.predict({"x": np.ones(1), "noise": np.zeros(1)}) == first


def test_signature_of_another_model_does_not_hold(world: World, unique_name: str) -> None:
    """The files are sound and signed, but for a model of another name."""
    good, _ = world.good()
    other = f"{unique_name}_other"
    version, tags = world.good(other)
    path = world.client.get_model_version_download_uri(other, str(version))
    import mlflow.artifacts

    folder = mlflow.artifacts.download_artifacts(
        artifact_uri=path, dst_path=str(world.folder), tracking_uri=world.settings.mlflow_uri
    )
    copied = world.smuggle(Path(folder), tags)

    refusal = world.refusal(good, copied)

    assert f"{world.name} version {copied}: its signature is not valid for model {world.name}" in refusal


def test_registry_that_hangs_fails_a_load_within_a_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts the connection and never answers."""
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mlflow_client, "REQUEST_SECONDS_MAX", 1)
    monkeypatch.setattr(mlflow_client, "REQUEST_RETRIES_MAX", 1)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = world.settings.model_copy(update={"mlflow_uri": uri})
        began = time.monotonic()
        with pytest.raises(OutageError, match=r"the model registry at .* cannot be reached"):
            versions_loading.load(settings, world.declaration, GIVEN, 1)
    assert time.monotonic() - began < LIVENESS_SECONDS, "not MLflow's own bounds of a quarter of an hour"
