"""The names of served features: predictions hold values in order, and a digest that stands for their names.

Scoring publishes each set of names once, in the models topic, before the first prediction that refers to it.
Readers align rows by name, so features may be added, removed, renamed or put in another order. A set also
says how each feature of a view was defined, so that readers tell apart rows of two definitions. Pure.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from streams.records import FeatureSet, FeatureValue

ABSENT = -1
"""Position of a feature that a row does not have."""
_DIGEST_CHARS = 12


def digest_of(names: Sequence[str], text: Iterable[str], definitions: Mapping[str, str] | None = None) -> str:
    """Return the digest of ordered names, of those that hold text, and of the known definitions.

    >>> digest_of(["km", "payment"], ["payment"])
    '7fa4a49efe47'
    >>> digest_of(["km", "payment"], ["payment"], {"km": "sum over 1 h"})
    'f7bf41d89d03'
    """
    textual, defined = set(text), definitions or {}
    lines = [
        "\t".join([name, "text" if name in textual else "number", *filter(None, [defined.get(name)])])
        for name in names
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGEST_CHARS]


def feature_set(
    model: str, names: Sequence[str], text: Iterable[str], definitions: Mapping[str, str] | None = None
) -> FeatureSet:
    """Return the record that publishes a set of names."""
    textual = [name for name in names if name in set(text)]
    return FeatureSet(
        model=model,
        digest=digest_of(names, textual, definitions),
        names=list(names),
        text=textual,
        definitions=dict(definitions or {}),
    )


def key_of(published: FeatureSet) -> bytes:
    """Return the key of a record in the models topic."""
    return f"{published.model}/features/{published.digest}".encode()


class Layout(NamedTuple):
    """Where wanted features are in the rows of one digest."""

    width: int
    """Number of values of a row."""
    positions: tuple[int, ...] | None
    """The position of each wanted feature, or `ABSENT`; None if the rows hold just the wanted features."""

    def row(self, values: Sequence[FeatureValue]) -> Sequence[FeatureValue]:
        """Return the wanted values; null for a feature that the row does not have."""
        if self.positions is None:
            return values
        return [None if place == ABSENT else values[place] for place in self.positions]


class FeatureSets:
    """The published names of one model's features, by digest."""

    def __init__(self, known: Iterable[FeatureSet] = ()) -> None:
        """Take sets of names in the order in which they were published; `learn` adds more."""
        self._names: dict[str, tuple[str, ...]] = {}
        self._text: dict[str, frozenset[str]] = {}
        self._definitions: dict[str, Mapping[str, str]] = {}
        self._unknown: set[str] = set()
        self.published: dict[str, FeatureSet] = {}
        """The records, by digest."""
        self.revision = 0
        """Number of sets that were learned."""
        for each in known:
            self.learn(each)

    def learn(self, published: FeatureSet) -> None:
        """Take a set of names."""
        self.published[published.digest] = published
        self._names[published.digest] = tuple(published.names)
        self._text[published.digest] = frozenset(published.text)
        self._definitions[published.digest] = published.definitions
        self._unknown.discard(published.digest)
        self.revision += 1

    def note(self, digest: str) -> None:
        """Note the digest of a prediction."""
        if digest not in self._names and digest:
            self._unknown.add(digest)

    @property
    def has_unknown(self) -> bool:
        """Whether a prediction was noted whose names are not known."""
        return bool(self._unknown)

    def give_up(self) -> list[str]:
        """Continue without the names that were noted and are not known; return their digests."""
        given_up = sorted(self._unknown)
        self._unknown.clear()
        return given_up

    def names(self, digest: str) -> tuple[str, ...] | None:
        """Return the names of a digest; without a digest the first ones that were published; None if unknown.

        Records without a digest were written before names were published.
        """
        return self._names.get(digest) if digest else next(iter(self._names.values()), None)

    def definitions(self, digest: str) -> Mapping[str, str]:
        """Return the digests of the definitions of a digest's features, as far as they are known, by name."""
        return self._definitions.get(digest, {})

    def holds_numbers(self, digest: str, name: str) -> bool:
        """Tell whether a feature is known to hold numbers in the rows of a digest."""
        return digest in self._text and name not in self._text[digest]

    def redefined(self, digest: str, definitions: Mapping[str, str]) -> list[str]:
        """Return the features that the rows of a digest hold with another definition than the given one.

        A definition that is not known on one side does not differ.
        """
        held = self._definitions.get(digest, {})
        return sorted(name for name in held.keys() & definitions.keys() if held[name] != definitions[name])

    def undefined(self, digest: str, definitions: Mapping[str, str]) -> list[str]:
        """Return the features with one of the given definitions of which the rows of a digest tell none.

        Such rows were written before definitions were published. They are taken to fit.
        """
        held = self._definitions.get(digest, {})
        return sorted(name for name in self.names(digest) or () if name in definitions.keys() - held.keys())


class Alignment:
    """Puts rows into the order of wanted features, by name."""

    def __init__(
        self, sets: FeatureSets, wanted: Sequence[str], definitions: Mapping[str, str] | None = None
    ) -> None:
        """Take what is known of all rows, which may grow, and what is wanted.

        Args:
            sets: The names and definitions of the features in the rows.
            wanted: Features in order.
            definitions: Their definitions, as far as rows must have these; by default they may have any.
        """
        self._sets = sets
        self._definitions = definitions or {}
        self._wanted = tuple(wanted)
        self._layouts: dict[str, Layout | None] = {}
        self._revision = sets.revision

    def layout(self, digest: str) -> Layout | None:
        """Return the layout of the rows of a digest; None if their names are not known or not as defined.

        Rows without a digest are taken to hold the wanted features as long as no names are published at all.
        """
        if self._revision != self._sets.revision:
            self._layouts.clear()
            self._revision = self._sets.revision
        if digest not in self._layouts:
            self._layouts[digest] = self._find(digest)
        return self._layouts[digest]

    def row(self, digest: str, values: Sequence[FeatureValue]) -> Sequence[FeatureValue] | None:
        """Return the wanted values of one row; None without a layout, or if its values do not fit it."""
        found = self.layout(digest)
        return None if found is None or len(values) != found.width else found.row(values)

    def _find(self, digest: str) -> Layout | None:
        names = self._sets.names(digest)
        if names is None:
            return None if digest else Layout(len(self._wanted), None)
        if self._sets.redefined(digest, self._definitions):
            return None
        places = {name: place for place, name in enumerate(names)}
        positions = tuple(places.get(name, ABSENT) for name in self._wanted)
        return Layout(len(names), None if names == self._wanted else positions)
