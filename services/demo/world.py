"""What the demo plays: events, the model that is asked, and what its summary adds."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from services.demo.figures import Figures
from services.demo.months import Calendar
from services.demo.playlist import EventTable, Playlist
from services.runtime.declaration import Learning, ModelDeclaration
from services.runtime.settings import Settings
from streams import records


class Companion(Protocol):
    """A second account of a world, beside that of the requests."""

    @property
    def model(self) -> str:
        """The model whose predictions it reads."""
        ...

    @property
    def learning(self) -> Learning | None:
        """How that model learns online, if it does: event time then waits for it, too."""
        ...

    @property
    def positives(self) -> Collection[str] | None:
        """Ids of the requests whose label is 1, if no label means 0; None if each label is an outcome."""
        ...

    def add_predictions(self, values: Sequence[bytes]) -> None:
        """Add predictions of one partition, in order."""

    def add_drift(self, record: records.DriftRecord) -> None:
        """Add a record of drift of any model."""

    def faults(self, requests_sent: int, dead_letters: int) -> list[str]:
        """Return the errors of the account; both counts include those before scoring started."""
        ...

    def figures(self) -> Figures:
        """Return what the summary shows."""
        ...


MakeCompanion = Callable[[Mapping[str, ModelDeclaration], Playlist], Companion]


def _write_no_models(settings: Settings) -> Settings:
    return settings


def _arrange_nothing(playlist: Playlist, _declaration: ModelDeclaration) -> Playlist:
    return playlist


@dataclasses.dataclass(frozen=True)
class DemoWorld:
    """One world; nothing is loaded before it is played."""

    name: str
    title: str
    model: str
    """The model that is trained here, and whose requests are counted."""
    calendar: Calendar
    processes: tuple[str, ...]
    load: Callable[[], Mapping[str, EventTable]]
    """Returns all events by topic."""
    write_sources: Callable[[Path], None]
    """Writes the files that Feast materialises into a folder."""
    make_companion: MakeCompanion
    folder: Path
    """The folder with ``models`` and ``feature_repo``."""
    has_chronicle: bool = False
    """Whether what happened on each day is known, see `services.demo.days`."""
    has_drift: bool = True
    """Whether drift must request a retraining before its end."""
    retraining_days: int | None = None
    """Days after which a version is replaced, even if drift finds no harm; None: never."""
    write_models: Callable[[Settings], Settings] = _write_no_models
    """Writes models into the demo's folder, which is empty; returns the settings with them."""
    arrange: Callable[[Playlist, ModelDeclaration], Playlist] = _arrange_nothing
    """Changes what is sent of the loaded events."""

    def settings(self, given: Settings) -> Settings:
        """Return the settings with the models and features of this world, but not those that are set.

        Set folders count only if they hold the world's model: in a folder of one's own they are of others.
        """
        places = {"models": self.folder / "models", "feature_repo": self.folder / "feature_repo"}
        kept = given.model_fields_set if (given.models / self.model).is_dir() else set()
        return given.model_copy(update={name: each for name, each in places.items() if name not in kept})
