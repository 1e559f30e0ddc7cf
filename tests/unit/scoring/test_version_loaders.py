"""Versions come from the registry, except those of models that learn online."""

from typing import Any

from services.runtime.settings import Settings
from services.scoring.version_loaders import loader_factory
from tests.unit.scoring.fakes import HalfOfX, declaration


class LoadingProcess:
    """Returns one model for every version; keeps what was requested."""

    def __init__(self):
        self.model = HalfOfX()
        self.loaded = []

    def load(self, settings, declared, inputs, version):
        self.loaded.append((declared.name, version))
        return self.model


def test_a_version_from_the_registry_is_loaded_in_the_loading_process():
    process: Any = LoadingProcess()
    load = loader_factory(Settings(), process)(declaration(), {})
    assert load("m", 3) is process.model
    assert process.loaded == [("m", 3)]


def test_a_model_that_learns_online_is_not_loaded_from_the_registry():
    process: Any = LoadingProcess()
    factory = loader_factory(Settings(), process)
    learning = declaration().model_copy(update={"learning": object()})
    assert factory(learning, {}) is factory(learning, {})
    assert factory(declaration(), {}) is not factory(declaration(), {})
    assert process.loaded == []
