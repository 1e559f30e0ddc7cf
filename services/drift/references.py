"""The references of the versions that predicted, and the bins that follow from them."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from services.drift.binning.binning import PredictionRows, RowBinner
from services.model_registry.traffic_split import CHAMPION
from services.runtime.declaration import ModelDeclaration
from streams.feature_sets import FeatureSets
from streams.records import Prediction, Reference

REFERENCES_KEPT_MAX = 8
"""Maximum references in a state, those of the latest versions: a rollback may make one of them champion."""
BINNERS_KEPT_MAX = 4
"""Maximum row binners in memory: the champion's, and those of windows that began under an earlier one."""

LINEAGES_KEPT_MAX = 1_000
"""Maximum lineages in memory: it is asked for several times for each prediction and each label."""


class References:
    """References by version; version 0 is no model and has none."""

    def __init__(self, known: Iterable[Reference], declaration: ModelDeclaration) -> None:
        """Start with the references of a state."""
        self._declaration = declaration
        self._learns = declaration.learning is not None
        self._known: dict[int, Reference | None] = {0: None}
        self._known |= {reference.version: reference for reference in known}
        self._unknown: set[int] = set()
        self._of_champions: set[int] = set()
        """Those of the unknown versions that answered as the champion."""
        self._of_other_arms: set[int] = set()
        """Versions without a known reference that answered only in other arms: it comes with a promotion."""
        self._lineages: dict[int, int] = {}
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
        """Note the version that predicted, and the names of its features.

        The versions of a model that learns online share references, which come with the changes that
        `Champions` waits for.
        """
        version, is_champions = prediction.version, prediction.arm == CHAMPION
        if is_champions and version in self._of_other_arms:  # it was promoted
            self._of_other_arms.discard(version)
            del self._known[version]
        if not self._learns and version not in self._known:
            self._unknown.add(version)
            if is_champions:
                self._of_champions.add(version)
        self.feature_sets.note(prediction.feature_set)

    def learn(self, reference: Reference) -> None:
        """Take the reference of a version."""
        self._known[reference.version] = reference
        self._lineages.clear()
        self._binners.pop(reference.version, None)
        for versions in (self._unknown, self._of_champions, self._of_other_arms):
            versions.discard(reference.version)

    def give_up(self) -> set[int]:
        """Continue without the unknown references, which the models topic does not contain.

        Return the versions that are worth a warning: those that answered as the champion. The reference of
        another arm's version comes with its promotion.
        """
        missing = set(self._of_champions)
        self._known |= dict.fromkeys(self._unknown)
        self._of_other_arms |= self._unknown - missing
        self._unknown.clear()
        self._of_champions.clear()
        self.feature_sets.give_up()
        return missing

    def get(self, version: int | None) -> Reference | None:
        """Return the reference with which a version is compared, or None."""
        return None if version is None else self._known.get(self._base(version))

    def lineage(self, version: int) -> int:
        """Return what counts as one champion: of a model that learns online all versions of one reference.

        The versions before the first reference are lineage 1.
        """
        if not self._learns:
            return version
        found = self._lineages.get(version)
        if found is None:
            base = self._base(version)
            found = base if self._known.get(base) is not None else min(version, 1)
            if len(self._lineages) >= LINEAGES_KEPT_MAX:
                self._lineages.clear()
            self._lineages[version] = found
        return found

    def _base(self, version: int) -> int:
        """Return the version whose reference a version has."""
        if not self._learns:
            return version
        known = [each for each, found in self._known.items() if found is not None and each <= version]
        return max(known, default=version)

    def row_binner(self, version: int | None) -> RowBinner | None:
        """Return the binner for a version's reference, always the same object; None without a reference."""
        reference = self.get(version)
        if version is None or reference is None:
            return None
        version = reference.version
        if version not in self._binners:
            if len(self._binners) >= BINNERS_KEPT_MAX:
                del self._binners[next(iter(self._binners))]
            self._binners[version] = RowBinner(
                reference, self._declaration, self.feature_sets, self._answered
            )
        return self._binners[version]

    def _answered(self, rows: PredictionRows, reference: Reference) -> npt.NDArray[np.bool_]:
        """Return which rows (n_rows,) were answered by a version that has this reference."""
        answered: npt.NDArray[np.bool_] = rows.versions == reference.version
        if not self._learns:
            return answered
        lineages = {version: self.lineage(version) for version in set(rows.versions.tolist())}
        return np.array(
            [
                each.arm == CHAMPION and lineages[each.version] == reference.version
                for each in rows.predictions
            ],
            dtype=np.bool_,
        )

    def state(self) -> list[Reference]:
        """Return what a state keeps, by version."""
        known = [reference for reference in self._known.values() if reference is not None]
        return sorted(known, key=lambda reference: reference.version)[-REFERENCES_KEPT_MAX:]
