"""Feast's type checks are compiled at the first call of a function, and check the same."""

import subprocess
import sys

import pytest
from typeguard import TypeCheckError, _decorators, typechecked

from services.feature_store.typeguard_internals import late_checks
from services.runtime.settings import ROOT
from tests.waiting import LIVENESS_SECONDS

instrumented: list[str] = []
instrument = _decorators.instrument


def counted(function):
    instrumented.append(function.__name__)
    return instrument(function)


class Base:
    def __init__(self, name: str) -> None:
        self.name = name


_decorators.instrument = counted
with late_checks():

    @typechecked
    class Sample(Base):
        def __init__(self, name: str, *, size: int = 1) -> None:
            super().__init__(name)
            self.size = size

        @property
        def double(self) -> int:
            return self.name  # type: ignore[return-value]  # what is checked

        @classmethod
        def of(cls, size: int) -> "Sample":
            return cls("made", size=size)

        def unused(self) -> None: ...


_decorators.instrument = instrument


def test_a_function_is_compiled_once_when_it_is_first_called():
    instrumented.clear()
    assert [Sample("a").name, Sample("b", size=2).name] == ["a", "b"]
    assert Sample.of(3).size == 3
    assert len(instrumented) == len(set(instrumented))
    assert "unused" not in instrumented


def test_methods_class_methods_and_properties_are_checked():
    with pytest.raises(TypeCheckError):
        Sample(1)  # type: ignore[arg-type]  # what is checked
    with pytest.raises(TypeCheckError):
        Sample.of("three")  # type: ignore[arg-type]  # what is checked
    with pytest.raises(TypeCheckError):
        _ = Sample("a").double


def test_what_is_imported_later_is_compiled_at_once():
    before = _decorators.instrument
    with late_checks():
        assert _decorators.instrument is not before
    assert _decorators.instrument is before


FEAST = """
from services.feature_store.typeguard_internals import late_checks
from typeguard import TypeCheckError, _decorators

compiled = []
instrument = _decorators.instrument
_decorators.instrument = lambda function: compiled.append(function) or instrument(function)
with late_checks():
    from feast import Entity, FeatureView
print(len(compiled))
print(Entity(name="driver", join_keys=["id"]).join_key)
for wrong in (lambda: Entity(name=1), lambda: FeatureView(name="view", source=None, entities=["driver"])):
    try:
        wrong()
    except TypeCheckError as error:
        print(str(error).splitlines()[0])
"""


def test_feast_compiles_little_at_its_import_and_refuses_wrong_types():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FEAST],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIVENESS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compiled, key, entity, view = done.stdout.splitlines()
    assert int(compiled) < 10, "of 240"
    assert key == "id"
    assert entity == 'argument "name" (int) is not an instance of str'
    assert "entities" in view
