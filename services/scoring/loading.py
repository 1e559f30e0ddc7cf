"""Versions ready to score: from MLflow's registry, or as the learning process published them."""

from collections.abc import Callable

from services import registry
from services.model import ModelDeclaration
from services.scoring.learned_models import load_learned
from services.scoring.models import Load
from services.settings import Settings
from services.versions import loading
from services.versions.inputs import Inputs

Loader = Callable[[ModelDeclaration, Inputs], Load]
"""From a declaration and what its model is given to the function that loads a version of it."""


def loader(settings: Settings) -> Loader:
    """Return what makes each model's own loading; a load blocks for some 100 ms."""
    # Here and not at the first load: the imports take seconds. skops first: for each of its trusted names it
    # searches all modules that are loaded, and MLflow brings a thousand.
    import skops.io  # noqa: F401  # warmed

    registry.connect(settings)
    learned = load_learned(settings)

    def of_model(declaration: ModelDeclaration, given: Inputs) -> Load:
        if declaration.learning is not None:
            return learned
        return lambda _, version: loading.load(settings, declaration, given, version)

    return of_model
