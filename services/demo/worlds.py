"""The worlds that the demo plays, by name."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

from examples.payments import generator
from services.demo import flights, months
from services.demo.minutes import MinutesAccount
from services.demo.months import Calendar
from services.demo.periods import PeriodsAccount
from services.demo.playlist import EventTable, Playlist, known_labels
from services.demo.world import Companion, DemoWorld
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import ROOT

LEARNER = "arrival_minutes"
"""The model of the flights that learns online, on the same requests and labels."""
_PROCESSES = ("features", "scoring", "drift", "archive", "retraining", "dashboard")
_FRAUD_ABOVE = 0.5
_SCORING_DAY = 60
"""The first day with a model of the payments: the labels of the first 40 days are known then."""


def _load_flights() -> Mapping[str, EventTable]:
    return flights.load().topics


def _make_minutes(declarations: Mapping[str, ModelDeclaration], playlist: Playlist) -> Companion:
    learner = declarations[LEARNER]
    assert learner.learning is not None, "the second model learns online"
    return MinutesAccount(learner.name, learner.learning, lambda: known_labels(playlist, learner.label))


def _load_payments() -> Mapping[str, EventTable]:
    return generator.events(generator.generate(generator.World()))


def _write_nothing(_folder: Path) -> None:
    """Write no file: the payments have no batch view."""


def _make_periods(declarations: Mapping[str, ModelDeclaration], playlist: Playlist) -> Companion:
    declaration, world = declarations[PAYMENTS.model], generator.World()
    known = known_labels(playlist, declaration.label)
    return PeriodsAccount(
        declaration,
        {name for name, (_, value) in known.items() if value > _FRAUD_ABOVE},
        start_ms=PAYMENTS.calendar.scoring_start_ms,
        change_ms=world.start_ms + world.change_day * generator.DAY_MS,
    )


FLIGHTS = DemoWorld(
    name="flights",
    title="A year of New York flights",
    model="arrival_delay",
    calendar=months.FLIGHTS,
    processes=(*_PROCESSES, "learning"),
    load=_load_flights,
    write_sources=flights.write_batch_sources,
    make_companion=_make_minutes,
    folder=ROOT,
    has_chronicle=True,
    retraining_days=60,
)
PAYMENTS = DemoWorld(
    name="payments",
    title="Four months of payments with cards, some of them fraud",
    model="payment_fraud",
    calendar=Calendar.of_months(
        ZoneInfo("UTC"),
        generator.World.start,
        4,
        generator.World.start + dt.timedelta(days=_SCORING_DAY),
    ),
    processes=_PROCESSES,
    load=_load_payments,
    write_sources=_write_nothing,
    make_companion=_make_periods,
    folder=ROOT / "examples" / "payments",
)
WORLDS = {world.name: world for world in (FLIGHTS, PAYMENTS)}
