"""The references of the versions that predicted, and the bins that follow from them."""

from collections.abc import Iterable

from services.drift.binning.binning import RowBinner
from services.runtime.declaration import ModelDeclaration
from streams.feature_sets import FeatureSets
from streams.records import Prediction, Reference

REFERENCES_KEPT_MAX = 8
"""Maximum references in a state, those of the latest versions: a rollback may make one of them champion."""
BINNERS_KEPT_MAX = 4
"""Maximum row binners in memory: the champion's, and those of windows that began under an earlier one."""


class References:
    """References by version; version 0 is no model and has none."""

    def __init__(self, known: Iterable[Reference], declaration: ModelDeclaration) -> None:
        """Start with the references of a state."""
        self._declaration = declaration
        self._known: dict[int, Reference | None] = {0: None}
        self._known |= {reference.version: reference for reference in known}
        self._unknown: set[int] = set()
        self.feature_sets = FeatureSets()
        """The names of the features that predictions hold."""
        self._binners: dict[int, RowBinner] = {}

    @property
    def unknown(self) -> frozenset[int]:
        """Versions that predicted and whose reference is unknown."""
        return frozenset(self._unknown)

    @property
    def are_complete(self) -> bool:
        """Whether the reference and the names of features of every prediction so far are known."""
        return not self._unknown and not self.feature_sets.has_unknown

    def note(self, prediction: Prediction) -> None:
        """Note the version that predicted, and the names of its features."""
        if prediction.version not in self._known:
            self._unknown.add(prediction.version)
        self.feature_sets.note(prediction.feature_set)

    def learn(self, reference: Reference) -> None:
        """Take the reference of a version."""
        self._known[reference.version] = reference
        self._binners.pop(reference.version, None)
        self._unknown.discard(reference.version)

    def give_up(self) -> None:
        """Continue without the unknown references: the models topic does not contain them any more."""
        self._known |= dict.fromkeys(self._unknown)
        self._unknown.clear()
        self.feature_sets.give_up()

    def get(self, version: int | None) -> Reference | None:
        """Return the reference of a version, or None."""
        return None if version is None else self._known.get(version)

    def row_binner(self, version: int | None) -> RowBinner | None:
        """Return the binner for a version's reference, always the same object; None without a reference."""
        reference = self.get(version)
        if version is None or reference is None:
            return None
        if version not in self._binners:
            if len(self._binners) >= BINNERS_KEPT_MAX:
                del self._binners[next(iter(self._binners))]
            self._binners[version] = RowBinner(reference, self._declaration, self.feature_sets)
        return self._binners[version]

    def state(self) -> list[Reference]:
        """Return what a state keeps, by version."""
        known = [reference for reference in self._known.values() if reference is not None]
        return sorted(known, key=lambda reference: reference.version)[-REFERENCES_KEPT_MAX:]
