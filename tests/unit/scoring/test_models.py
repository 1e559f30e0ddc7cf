"""Versions are swapped as a whole or not at all."""

import asyncio

from services.scoring.models import ModelSet
from streams.records import Arm, ModelChanged
from tests.unit.scoring.fakes import HalfOfX


def change(*arms):
    return ModelChanged(model="m", arms=list(arms), changed_at_ms=0, reason="test")


def champion(version):
    return Arm(name="champion", version=version, weight=10_000)


def test_change_loads_only_what_is_new():
    loaded: list[int] = []

    def load(_name, version):
        loaded.append(version)
        return HalfOfX(offset=version)

    models = ModelSet("m", load)
    asyncio.run(models.apply(change(champion(1))))
    asyncio.run(models.apply(change(champion(2), Arm(name="frozen", version=1, weight=0, shadow=True))))
    assert loaded == [1, 2]
    assert set(models.serving.models) == {1, 2}


def test_version_that_does_not_load_leaves_the_old_one_serving():
    def load(_name, version):
        if version == 2:
            raise OSError("the artifact is gone")
        return HalfOfX()

    models = ModelSet("m", load)
    asyncio.run(models.apply(change(champion(1))))
    before = models.serving
    asyncio.run(models.apply(change(champion(2))))
    assert models.serving is before
