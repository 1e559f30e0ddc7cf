"""Both worlds have one interface; what differs is in services.demo.worlds alone."""

import dataclasses

import pytest

from examples.payments import generator
from services.demo import playlist, worlds
from services.demo.world import DemoWorld
from services.runtime.declaration import DAY_MS
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings

WORLDS = pytest.mark.parametrize("world", worlds.WORLDS.values(), ids=lambda world: str(world.name))


@WORLDS
def test_the_model_keeps_its_first_version_and_is_retrained(world: DemoWorld) -> None:
    declaration = load_all(world.settings(Settings()).models)[world.model]
    assert declaration.is_retrained
    assert declaration.rollout.keep_first_as_shadow == "frozen"


@WORLDS
def test_a_learning_model_has_its_process(world: DemoWorld) -> None:
    declarations = load_all(world.settings(Settings()).models)
    companion = world.make_companion(declarations, playlist.Playlist((), ""))
    assert companion.model in declarations
    assert (companion.learning is not None) == ("learning" in world.processes)


@WORLDS
def test_a_companion_without_records_has_no_figures_and_no_faults(world: DemoWorld) -> None:
    declarations = load_all(world.settings(Settings()).models)
    companion = world.make_companion(declarations, playlist.Playlist((), ""))
    assert companion.figures().periods == []
    assert companion.figures().minutes.months == []
    assert companion.faults(0, 0) == []


def test_payments_fit_their_calendar() -> None:
    """The labels of forty days are known when the first model is trained, and the fraud changes later."""
    calendar, world = worlds.PAYMENTS.calendar, generator.World()
    assert calendar.start_ms == world.start_ms
    assert calendar.end_ms == world.start_ms + world.days * DAY_MS
    label = load_all(worlds.PAYMENTS.settings(Settings()).models)["payment_fraud"].label
    assert label.horizon_ms == generator.SETTLED_DAYS * DAY_MS
    assert calendar.scoring_start_ms - label.horizon_ms == world.start_ms + 40 * DAY_MS
    assert world.start_ms + world.change_day * DAY_MS > calendar.scoring_start_ms


def test_only_frauds_are_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(generator.World(), days=25)
    topics = generator.events(generator.generate(small))
    laid_out = playlist.lay_out(topics, generator.PAYMENTS, 2)
    declaration = load_all(worlds.PAYMENTS.settings(Settings()).models)["payment_fraud"]
    known = playlist.known_labels(laid_out, declaration.label)
    assert len(known) == len(topics[generator.CHARGEBACKS].keys)
    assert {value for _, value in known.values()} == {1.0}
