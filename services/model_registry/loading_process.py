"""Versions are loaded in a process of their own, so that answers do not wait for Python's lock meanwhile.

Reading a model of a hundred trees holds that lock for a tenth of a second, MLflow's client and its imports
for seconds. Here the other process does all of it: it verifies, loads and proves the version, then hands over
the estimator, which comes to life in some milliseconds. A file that makes its library crash ends that process
alone. Models that are code, not data, are loaded where they answer.
"""

import multiprocessing
import os
import threading
from multiprocessing.managers import BaseManager
from typing import Any

from services.model_registry import flavours, golden_batch, loading, mlflow_client
from services.model_registry.contract import Model
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_inputs import Inputs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

LOST = (EOFError, OSError)
"""What a call raises whose process has ended."""


class LoadingProcess:
    """The other process, started at once and again whenever it is found to have ended."""

    def __init__(self) -> None:
        """Start it; this does not wait until it is ready."""
        self._lock = threading.Lock()
        self._starting = _Starting()

    def load(self, settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int) -> Model:
        """Load one version; blocking. Raises `RegistryError`, also when the process ended over it."""
        starting = self._replaced(self._starting) if self._starting.has_ended else self._starting
        try:
            proved = starting.loader().load(settings, declaration, given, version)
        except LOST:  # over this version, or over another one that was being loaded
            self._replaced(starting)
            proved = _load_alone(settings, declaration, given, version)
        if proved is None:
            return loading.load(settings, declaration, given, version)
        try:
            golden_batch.prove(proved.proof, proved.model)  # which warms it here, too
        except golden_batch.GoldenError as error:
            raise RegistryError(f"{declaration.name} version {version}: {error}") from error
        model: Model = proved.model
        return model

    def _replaced(self, ended: "_Starting") -> "_Starting":
        with self._lock:
            if self._starting is ended:
                self._starting = _Starting()
            return self._starting


def _load_alone(settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int) -> Any:
    """Load a version in a process that loads nothing else, so that it is this one if that ends as well."""
    alone = _Starting()
    try:
        return alone.loader().load(settings, declaration, given, version)
    except LOST as error:
        raise RegistryError(
            f"{declaration.name} version {version}: the process that loads versions ended over it twice "
            f"({error!r}); was there too little memory?"
        ) from error
    finally:
        alone.end()


class _Starting(threading.Thread):
    """A process from its start on: that takes seconds, in which nothing needs to wait for it."""

    def __init__(self) -> None:
        super().__init__(name="loading process", daemon=True)
        self._manager = _Manager(ctx=multiprocessing.get_context("spawn"))
        self._loader: Any = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._manager.start(_end_with_parent)
            self._loader = self._manager.Loader()
        except Exception as error:  # noqa: BLE001  # raised to who waits for it
            self._error = error

    @property
    def has_ended(self) -> bool:
        """Tell whether it is gone: killed, or never there."""
        return not self.is_alive() and (self._error is not None or not self._manager.is_alive())

    def loader(self) -> Any:
        """Wait for it; return a `_Loader` that works there."""
        self.join()
        if self._error is not None:
            raise EOFError(repr(self._error)) from self._error
        return self._loader

    def end(self) -> None:
        """Wait for it, then end it."""
        self.join()
        if self._error is None:
            self._manager.shutdown()


class _Loader:
    """In the other process: each caller has a thread of its own there."""

    def __init__(self) -> None:
        # skops first: for each of its trusted names it searches all modules that are loaded, and MLflow
        # brings a thousand.
        import skops.io  # noqa: F401  # warmed

        mlflow_client.connect(Settings())

    def load(
        self, settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int
    ) -> loading.Proved | None:
        """Load and prove a version; return None for one that is code. Raises only `RegistryError`."""
        try:
            found = loading.find(settings, declaration.name, version)
            if found.statement.flavour not in flavours.DATA:
                return None
            return loading.load_found(settings, declaration, given, found)
        except RegistryError:
            raise
        except Exception as error:  # of libraries, some of which cannot be sent
            raise RegistryError(f"{declaration.name} version {version}: {error!r}") from error


class _Manager(BaseManager):
    Loader: Any

    def is_alive(self) -> bool:
        return bool(self._process.is_alive())  # type: ignore[attr-defined]  # not in its stubs


_Manager.register("Loader", _Loader, exposed=["load"])


def _end_with_parent() -> None:
    """End when the parent has ended, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=watch, name="watch", daemon=True).start()
