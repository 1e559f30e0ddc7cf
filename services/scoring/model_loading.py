"""Versions ready to score: from MLflow's registry, or as the learning process published them."""

import functools
from collections.abc import Callable

from services.model_registry.loading_process import LoadingProcess
from services.model_registry.model_inputs import Inputs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.scoring.model_cache import Load
from services.scoring.river_model import load_learned

Loader = Callable[[ModelDeclaration, Inputs], Load]
"""From a declaration and what its model is given to the function that loads a version of it."""


@functools.cache
def _process() -> LoadingProcess:
    return LoadingProcess()


def loader(settings: Settings) -> Loader:
    """Return what makes each model's own loading; a load blocks for some 100 ms."""
    process, learned = _process(), load_learned(settings)  # starts it now and not at the first load

    def of_model(declaration: ModelDeclaration, given: Inputs) -> Load:
        if declaration.learning is not None:
            return learned
        return lambda _, version: process.load(settings, declaration, given, version)

    return of_model
