"""What is known of the versions that predicted: their references, and the cells of these."""

from collections.abc import Iterable

from services.drift.binning.binning import RowBinner
from services.runtime.declaration import ModelDeclaration
from streams.records import Reference

REFERENCES_KEPT_MAX = 8
"""Of the latest versions: those that a rollback may bring back."""
PLACINGS_KEPT_MAX = 4
"""In use are the champion's, and those of windows that began under another one."""


class References:
    """By version; 0 is no model and has none."""

    def __init__(self, known: Iterable[Reference], declaration: ModelDeclaration) -> None:
        """Start with those of a state."""
        self._declaration = declaration
        self._known: dict[int, Reference | None] = {0: None}
        self._known |= {reference.version: reference for reference in known}
        self._unknown: set[int] = set()
        self._placings: dict[int, RowBinner] = {}

    @property
    def unknown(self) -> frozenset[int]:
        """Versions that predicted and of which nothing is known."""
        return frozenset(self._unknown)

    def note(self, version: int) -> None:
        """Take notice that a version predicted."""
        if version not in self._known:
            self._unknown.add(version)

    def learn(self, reference: Reference) -> None:
        """Take a reference."""
        self._known[reference.version] = reference
        self._placings.pop(reference.version, None)
        self._unknown.discard(reference.version)

    def give_up(self) -> None:
        """Go on without those that are unknown."""
        self._known |= dict.fromkeys(self._unknown)
        self._unknown.clear()

    def get(self, version: int | None) -> Reference | None:
        """Return the reference of a version, or None."""
        return None if version is None else self._known.get(version)

    def placing(self, version: int | None) -> RowBinner | None:
        """Return what places rows in the reference's cells, the same for the same version."""
        reference = self.get(version)
        if version is None or reference is None:
            return None
        if version not in self._placings:
            if len(self._placings) >= PLACINGS_KEPT_MAX:
                del self._placings[next(iter(self._placings))]
            self._placings[version] = RowBinner(reference, self._declaration)
        return self._placings[version]

    def kept(self) -> list[Reference]:
        """Return what a state holds, by version."""
        known = [reference for reference in self._known.values() if reference is not None]
        return sorted(known, key=lambda reference: reference.version)[-REFERENCES_KEPT_MAX:]
