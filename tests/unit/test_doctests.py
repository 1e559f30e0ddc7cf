"""The examples in docstrings are right."""

import doctest
import importlib
import pkgutil

import pytest

import services.archive
import services.drift.binning
import services.drift.detectors
import services.drift.performance
import services.drift.windows
import services.monitoring

PACKAGES = (
    services.archive,
    services.drift.binning,
    services.drift.detectors,
    services.drift.performance,
    services.drift.windows,
    services.monitoring,
)
MODULES = sorted(
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.ispkg
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_are_right(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs=vars(module)).failed == 0
