"""How scoring loads versions: from MLflow's registry, or as the learning process published them."""

import functools
from collections.abc import Callable

from services.model_registry.loading_process import LoadingProcess
from services.model_registry.model_inputs import Inputs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.scoring.loaded_versions import VersionLoader
from services.scoring.river_model import learned_version_loader

LoaderFactory = Callable[[ModelDeclaration, Inputs], VersionLoader]
"""Returns the loader of a model's versions, given its declaration and the inputs that are served."""


@functools.cache
def _loading_process() -> LoadingProcess:
    return LoadingProcess()


def loader_factory(settings: Settings, process: LoadingProcess | None = None) -> LoaderFactory:
    """Return the factory of the models' loaders; a load blocks for some 100 ms.

    Versions from the registry are loaded in ``process``, by default one that all callers share.
    """
    # The process starts here and not with the first load.
    process, load_learned = process or _loading_process(), learned_version_loader(settings)

    def loader_of(declaration: ModelDeclaration, inputs: Inputs) -> VersionLoader:
        if declaration.learning is not None:
            return load_learned
        return lambda _, version: process.load(settings, declaration, inputs, version)

    return loader_of
