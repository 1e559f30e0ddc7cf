"""What ``driftline demo --bad-candidates`` plays: a few weeks of the flights, with a rollout."""

import dataclasses

from services.demo import months, playlist
from services.demo.playlist import Playlist
from services.demo.trial import candidates, fields
from services.demo.worlds import FLIGHTS
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings


def _write_models(settings: Settings) -> Settings:
    folder = settings.home / "models"
    candidates.write_models(settings.models, folder)
    return settings.model_copy(update={"models": folder})


def _arrange(loaded: Playlist, declaration: ModelDeclaration) -> Playlist:
    """Return the weeks of the trial, with the fields that are made up."""
    label = declaration.label
    begun = playlist.begin_at(loaded, candidates.START_MS)
    weeks = playlist.end_requests(begun, candidates.UNTIL_MS, label.topic, label.id)
    return fields.add(weeks, declaration, candidates.JUDGED_MS)


TRIAL = dataclasses.replace(
    FLIGHTS,
    title="Weeks of New York flights, in which bad candidates must be stopped",
    calendar=dataclasses.replace(
        months.FLIGHTS, starts_ms=months.FLIGHTS.starts_ms[:2], end_ms=candidates.UNTIL_MS
    ),
    processes=(*(name for name in FLIGHTS.processes if name != "learning"), "rollout"),
    has_chronicle=False,
    has_drift=False,
    write_models=_write_models,
    arrange=_arrange,
)
"""Its features are prepared as those of the flights, whose name it keeps."""
