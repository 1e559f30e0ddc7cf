"""Versions are loaded in a separate process, so that predictions do not wait for Python's lock.

Reading a model of a hundred trees holds that lock for 0.1 s, MLflow's client and its imports for seconds. The
loading process does all of that: it verifies and loads the version, then sends the estimator, which is
deserialized in a few ms. A file that crashes its library ends the loading process alone. Models that are code
instead of data are loaded in the process that scores with them.
"""

import multiprocessing
import os
import threading
from multiprocessing.managers import BaseManager
from multiprocessing.process import BaseProcess
from typing import Any

import scipy.special  # noqa: F401  # before other modules: see `skops_internals`

from services.model_registry import flavours, golden_batch, loading, mlflow_client, skops_internals
from services.model_registry.contract import LoadedVersion
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_inputs import Inputs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import garbage
from streams.outages import OutageError

LOST = (EOFError, OSError)
"""Errors of a call to a process that has ended."""


class LoadingProcess:
    """The process that loads versions; it is restarted whenever it has ended."""

    def __init__(self) -> None:
        """Start the process; return before it is ready."""
        self._lock = threading.Lock()
        self._starting = _Starting()

    def load(
        self, settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int
    ) -> LoadedVersion:
        """Load one version; blocking. Raises `RegistryError`, also if the version crashes the process."""
        starting = self._replaced(self._starting) if self._starting.has_ended else self._starting
        loaded: LoadedVersion | None
        try:
            loaded = starting.loader().load(settings, declaration, given, version)
        except LOST:  # this version crashed it, or another version that was being loaded
            self._replaced(starting)
            loaded = _load_alone(settings, declaration, given, version)
        if loaded is None:
            found = loading.find(settings, declaration.name, version)
            return loading.load_found(settings, declaration, given, found)
        assert loaded.batch is not None, "a registered version has a golden batch"
        try:
            golden_batch.verify(loaded.batch, loaded.model)  # which warms it in this process, too
        except golden_batch.GoldenError as error:
            raise RegistryError(f"{declaration.name} version {version}: {error}") from error
        return loaded

    def wait_until_started(self) -> None:
        """Block until the process can load versions, or raise `EOFError` if it could not be started."""
        self._starting.loader()

    def _replaced(self, ended: "_Starting") -> "_Starting":
        with self._lock:
            if self._starting is ended:
                self._starting = _Starting()
            return self._starting


def _load_alone(
    settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int
) -> LoadedVersion | None:
    """Load a version in a process that loads no other, so that a second crash is certainly its fault."""
    alone = _Starting()
    try:
        loaded: LoadedVersion | None = alone.loader().load(settings, declaration, given, version)
    except LOST as error:
        raise RegistryError(
            f"{declaration.name} version {version}: loading it crashed the loading process twice "
            f"({error!r}): check whether there is enough memory, or register another version"
        ) from error
    else:
        return loaded
    finally:
        alone.end()


class _Starting(threading.Thread):
    """A loading process that starts in a thread: the start takes seconds."""

    def __init__(self) -> None:
        super().__init__(name="loading process", daemon=True)
        self._manager = _Manager(ctx=multiprocessing.get_context("spawn"))
        self._loader: Any = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._manager.start(_prepare)
            self._loader = self._manager.Loader()
        except Exception as error:  # noqa: BLE001  # raised in `loader`
            self._error = error

    @property
    def has_ended(self) -> bool:
        """Tell whether the process has ended, or could not be started."""
        return not self.is_alive() and (self._error is not None or not self._manager.is_alive())

    def loader(self) -> Any:
        """Wait for the start; return a proxy of the `_Loader` in the process."""
        self.join()
        if self._error is not None:
            raise EOFError(repr(self._error)) from self._error
        return self._loader

    def end(self) -> None:
        """Wait for the start, then end the process."""
        self.join()
        if self._error is None:
            self._manager.shutdown()


class _Loader:
    """Loads versions in the loading process, with one thread per caller."""

    def __init__(self) -> None:
        # Both imports take seconds. skops first: it searches all loaded modules, and MLflow loads a thousand.
        skops_internals.skops_io()
        mlflow_client.connect(Settings())

    def load(
        self, settings: Settings, declaration: ModelDeclaration, given: Inputs, version: int
    ) -> LoadedVersion | None:
        """Load and verify a version; return None for one that is code.

        Raises only `RegistryError`, and `OutageError` while the registry is away.
        """
        try:
            found = loading.find(settings, declaration.name, version)
            if found.statement.flavour not in flavours.DATA:
                return None
            return loading.load_found(settings, declaration, given, found)
        except (RegistryError, OutageError):
            raise
        except Exception as error:  # some errors of libraries cannot be sent to another process
            raise RegistryError(f"{declaration.name} version {version}: {error!r}") from error


class _Manager(BaseManager):
    Loader: Any
    _process: BaseProcess

    def is_alive(self) -> bool:
        return self._process.is_alive()


_Manager.register("Loader", _Loader, exposed=["load"])


def _prepare() -> None:
    """Collect garbage rarely, and end this process when its parent has ended for whatever reason."""
    garbage.collect_rarely()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=watch, name="watch", daemon=True).start()
