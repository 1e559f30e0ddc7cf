"""Versions ready to score: from MLflow's registry, or as the learning process published them."""

import functools
from collections.abc import Callable

from services.model import ModelDeclaration
from services.scoring.learned_models import load_learned
from services.scoring.models import Load
from services.settings import Settings
from services.versions.inputs import Inputs
from services.versions.loading_process import LoadingProcess

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
