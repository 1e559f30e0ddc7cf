"""The requests of one step: which version has answered each, and what is compared. Pure."""

import mmh3
import msgspec

from services.model_registry.traffic_split import CHAMPION
from services.rollout.label_windows import LabelWindows, VersionOutput
from services.rollout.rollout_arms import CHALLENGER, PREVIOUS
from services.rollout.rollout_state import RolloutProgress
from services.rollout.step_evidence import ERRORS, StepEvidence
from services.runtime.declaration import ModelDeclaration
from streams.records import ASKED_OVER_HTTP, FeatureValue, Prediction

KEYS_MAX = 500_000
"""Maximum keys of a step that are remembered, so that each counts once; then no further ones count."""
MISSING_UNIT_MS = 10_000
MISSING_UNITS_OPEN = 6
"""Units of wall time that stay open for partitions that are read later."""
_SAMPLE_SEED = 0x5EED


class StepRequests:
    """Takes the predictions of one step into its evidence."""

    def __init__(
        self,
        declaration: ModelDeclaration,
        progress: RolloutProgress,
        weights: tuple[int, int],
        evidence: StepEvidence,
        windows: LabelWindows,
        keys: set[int],
    ) -> None:
        """Continue a step.

        Args:
            declaration: The model's.
            progress: The step that goes on.
            weights: The shares of challenger and champion, in 1/10,000.
            evidence: Of the step.
            windows: The requests that wait for their labels.
            keys: Hashes of the keys that have counted.
        """
        self.evidence = evidence
        self.keys = keys
        self._progress = progress
        self._weights = weights
        self._windows = windows
        self._classes = {name: float(number) for number, name in enumerate(declaration.classes)}
        self._has_keys = declaration.request.routing_key != declaration.request.id
        self._errors = declaration.rollout.guardrails.errors
        self._latency = declaration.rollout.guardrails.latency

    def take(self, partition: int, given: Prediction, key: bytes | None) -> None:
        """Take a prediction of a partition that is no repeat, with the key of its message."""
        if given.event_time_ms < self.evidence.start_ms:
            return
        if self.evidence.mode == "paired":
            self._take_pair(partition, given)
        else:
            self._take_key(partition, given, key)

    def close_units(self) -> None:
        """Add the units of wall time that are complete."""
        evidence = self.evidence
        if self._latency is not None:
            evidence.calls.close(self._latency.margin)
        if self._errors is None or not evidence.missing_open:
            return
        newest = max(evidence.missing_open)
        for number in sorted(evidence.missing_open):
            if number < newest - MISSING_UNITS_OPEN:
                rows, lacking = evidence.missing_open.pop(number)
                evidence.missing.add(lacking / rows, self._errors.margin)

    # -- a request that both versions have scored --------------------------------------------------

    def _take_pair(self, partition: int, given: Prediction) -> None:
        """Take a request that one of the versions answers while the other one is its shadow."""
        progress, own_answers = self._progress, bool(self._progress.share)
        own, other = (CHALLENGER, progress.version), (CHAMPION, progress.champion)
        answering, shadow = (own, (PREVIOUS, other[1])) if own_answers else (other, (CHALLENGER, own[1]))
        versions = {} if given.shadow_versions is msgspec.UNSET else given.shadow_versions
        fell_back = own_answers and given.fallback_from == CHALLENGER
        if versions.get(shadow[0]) != shadow[1]:
            return
        if (given.arm, given.version) != answering and not fell_back:
            return
        score = given.shadow_scores.get(shadow[0])
        self._note_missing(given.scored_time_ms, is_missing=fell_back if own_answers else score is None)
        self.evidence.requests += 1
        self.evidence.champion_requests += 1
        if score is None or fell_back or given.score is None:
            return
        self._note_calls(partition, given, shadow[0], own_answers=own_answers)
        probabilities = {} if given.shadow_probabilities is msgspec.UNSET else given.shadow_probabilities
        outputs = [self._output(given), VersionOutput(score, None, probabilities.get(shadow[0], []))]
        own_output, other_output = outputs if own_answers else outputs[::-1]
        self._windows.wait(given.prediction_id, given.event_time_ms, own_output, other_output)

    def _note_missing(self, wall_ms: int, *, is_missing: bool) -> None:
        number = wall_ms // MISSING_UNIT_MS
        if number < max(self.evidence.missing_open, default=number) - MISSING_UNITS_OPEN:
            return  # of a partition that is read very late
        unit = self.evidence.missing_open.setdefault(number, [0, 0])
        unit[0] += 1
        unit[1] += is_missing

    def _note_calls(self, partition: int, given: Prediction, shadow: str, *, own_answers: bool) -> None:
        times = {} if given.shadow_call_us is msgspec.UNSET else given.shadow_call_us
        if given.call_us is msgspec.UNSET or shadow not in times:
            return
        calls, wall_ms = self.evidence.calls, given.scored_time_ms
        calls.add(f"{partition}/{given.arm}", wall_ms, given.call_us, is_own=own_answers)
        calls.add(f"{partition}/shadow", wall_ms, times[shadow], is_own=not own_answers)

    # -- a request of one of the arms --------------------------------------------------------------

    def _take_key(self, partition: int, given: Prediction, key: bytes | None) -> None:
        """Take a request of one of the arms if its key has not counted in this step."""
        fell_back = given.fallback_from == CHALLENGER and given.fallback_version == self._progress.version
        is_own = fell_back or self._is_of(given, CHALLENGER, self._progress.version, self._weights[0])
        if not is_own and not self._is_of(given, CHAMPION, self._progress.champion, self._weights[1]):
            return
        if not fell_back and given.call_us is not msgspec.UNSET:
            place = f"{partition}/{given.arm}"
            self.evidence.calls.add(place, given.scored_time_ms, given.call_us, is_own=is_own)
        counted = self._new_key(given, key)
        if counted is None:
            return
        self._count(given, is_own=is_own, fell_back=fell_back)
        if fell_back or given.score is None:
            return
        if is_own or _draw(counted) < self.evidence.champion_sample:
            self._windows.wait(given.prediction_id, given.event_time_ms, self._output(given), is_own=is_own)

    def _is_of(self, given: Prediction, arm: str, version: int, weight: int) -> bool:
        """Tell whether an arm has answered a request of its own, with the share of this step."""
        return (given.arm, given.version, given.arm_weight) == (
            arm,
            version,
            weight,
        ) and given.fallback_from is msgspec.UNSET

    def _count(self, given: Prediction, *, is_own: bool, fell_back: bool) -> None:
        evidence = self.evidence
        evidence.requests += is_own
        evidence.champion_requests += not is_own
        evidence.errors = [evidence.errors[0] + fell_back, evidence.errors[1]]
        evidence.add_key(ERRORS, given.event_time_ms, float(fell_back), is_own=is_own)

    def _new_key(self, given: Prediction, key: bytes | None) -> bytes | None:
        """Return what was assigned to an arm; None if it has counted, or is not known.

        That is the id of the request, or the key of its message if model.yaml declares a key. Over HTTP the
        message has the id as its key, so the declared key is not known.
        """
        if not self._has_keys:
            return given.prediction_id.encode()
        if key is None or given.source_offset == ASKED_OVER_HTTP or len(self.keys) >= KEYS_MAX:
            return None
        hashed: int = mmh3.hash64(key, signed=False)[0]
        if hashed in self.keys:
            return None
        self.keys.add(hashed)
        return key

    def _output(self, given: Prediction) -> VersionOutput:
        assert given.score is not None, "only scored requests are compared"
        value = given.prediction
        probabilities = [] if given.probabilities is msgspec.UNSET else given.probabilities
        return VersionOutput(given.score, self._number(value), probabilities)

    def _number(self, value: FeatureValue) -> float | None:
        if isinstance(value, str):
            return self._classes.get(value)
        return None if value is None else float(value)


def _draw(key: bytes) -> float:
    """Return a number in [0, 1) that does not depend on the arm of a key."""
    return float(mmh3.hash(key, _SAMPLE_SEED, False)) / 2**32
