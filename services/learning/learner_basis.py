"""What a learner's state depends on in the declaration, and how it is fitted to a changed one. Pure."""

from collections.abc import Mapping, Sequence

from services.learning.learner_state import GateState, LearnerState, LearningCounts
from services.runtime.declaration import ModelDeclaration
from streams.feature_sets import ABSENT
from streams.records import FeatureValue

LABELS, INTERVAL, REFERENCE = "labels", "interval", "reference"
"""The parts of a basis, see `basis_of`."""
DEFINITION = "definition of "
"""How the part of a feature begins, whose text is the digest of its definition."""


def basis_of(declaration: ModelDeclaration, definitions: Mapping[str, str]) -> dict[str, str]:
    """Return what a state depends on, besides the names of features, as a readable text for each part."""
    label = declaration.label
    kind = next(field.type for field in label.fields if field.name == label.value)
    assert declaration.learning is not None, "a model that learns declares it"
    interval_ms, reference = declaration.learning.interval_ms, declaration.learning.reference
    return {
        LABELS: f"{declaration.task} {label.value}: {kind}, above {label.positive_above}",
        INTERVAL: f"{interval_ms} ms",
        REFERENCE: f"{reference.rows} rows from {reference.since_ms} to {reference.until_ms}",
    } | {f"{DEFINITION}{name}": digest for name, digest in sorted(definitions.items())}


def fit(
    state: LearnerState,
    declaration: ModelDeclaration,
    names: Sequence[str],
    definitions: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Fit a state to a declaration, in place; return the parts that had to change, with their old texts.

    Values of features are matched by name. If labels or a feature have another meaning, the estimator is
    reset, and what waits has no values of that meaning. In these cases the predictions on disk are to be read
    again. If the interval has another length, version numbers continue from the last one.

    Args:
        state: A checkpoint's, or a fresh one.
        declaration: The model's.
        names: The features in order.
        definitions: Digests of how features are defined, as far as that is known.
    """
    now = basis_of(declaration, definitions or {})
    changed = {part: state.basis[part] for part, text in now.items() if state.basis.get(part, text) != text}
    if names_before := state.names or _width_fits(state, names):
        _align(state, list(names_before), names)
    else:  # an older version did not write the names, and their number has changed
        changed["features"] = "unknown"
        _drop_rows(state)
    if state.names and state.names != list(names):
        changed["features"] = ", ".join(state.names)
    is_redefined = any(part.startswith(DEFINITION) for part in changed)
    if is_redefined:
        _drop_rows(state)
    if is_redefined or LABELS in changed:
        state.estimator, state.lessons, state.counts = None, [], LearningCounts()
    if LABELS in changed:
        state.losses, state.gate = (0, 0.0), GateState()
        state.waiting_labels = []  # their values have the old meaning
        for each in state.pending:
            each.score = None
    if is_redefined or changed.keys() & {LABELS, REFERENCE}:
        state.known_rows, state.reference = [], None
    if changed.keys() - {INTERVAL, REFERENCE}:
        state.on_disk.store = ""
    if INTERVAL in changed:
        _renumber(state, _milliseconds(changed[INTERVAL]), _milliseconds(now[INTERVAL]))
    state.names, state.basis = list(names), now
    return changed


def _width_fits(state: LearnerState, names: Sequence[str]) -> Sequence[str]:
    """Return the declared names if all rows of a state have as many values, else none."""
    widths = {len(each) for each in _rows(state)} - {0}
    return names if widths <= {len(names)} else ()


def _drop_rows(state: LearnerState) -> None:
    """Drop the lessons, and the values of the predictions that wait: their labels are counted as unfit."""
    state.lessons, state.known_rows, state.gate = [], [], GateState()
    for entry in state.pending:
        entry.features = []


def _align(state: LearnerState, before: Sequence[str], names: Sequence[str]) -> None:
    if list(before) == list(names):
        return
    places: Mapping[str, int] = {name: place for place, name in enumerate(before)}
    positions = [places.get(name, ABSENT) for name in names]

    def row(values: Sequence[FeatureValue]) -> list[FeatureValue]:
        if len(values) != len(before):
            return []
        return [None if place == ABSENT else values[place] for place in positions]

    for lesson in [*state.lessons, *state.gate.remembered]:
        lesson.features = row(lesson.features)
    for known in state.known_rows:
        known.features = row(known.features)
    for entry in state.pending:
        entry.features = row(entry.features)


def _rows(state: LearnerState) -> list[list[FeatureValue]]:
    return [each.features for each in state.lessons] + [each.features for each in state.pending]


def _renumber(state: LearnerState, before_ms: int, now_ms: int) -> None:
    """Let the next interval of the new length have the next number."""
    first_ms, learned = state.first_ms, state.learned
    state.learned = []  # what was announced is included in the arms, with the old start
    if first_ms is None:
        return
    closed_ms = learned[-1].interval_end_ms if learned else first_ms
    if state.interval_end_ms is not None:
        closed_ms = state.interval_end_ms - before_ms
    start_ms = closed_ms // now_ms * now_ms
    state.first_ms = start_ms - (closed_ms - first_ms) // before_ms * now_ms
    if state.interval_end_ms is not None:
        state.interval_end_ms = start_ms + now_ms


def _milliseconds(text: str) -> int:
    return int(text.removesuffix(" ms"))
