"""Models of every task are compared with their reference: their features, their outputs, and their losses."""

from typing import Any

import msgspec
import numpy as np
import pytest

from services.drift.drift_state import DriftState, starting_state
from services.drift.engine import DriftOutputs, Engine
from services.monitoring import reference
from services.runtime.declaration import ModelDeclaration
from streams import records
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS, alarms, reports

CLASSES = ("low", "middle", "high")
A_HOUR = 400
HOURS = 12
CHANGE_HOUR = 4


def declaration(task: str, *, learns: bool = False) -> ModelDeclaration:
    document = scenario.document() | {"task": task, "gates": None, "learning": {} if learns else None}
    document["label"] |= {"positive_above": None}
    if task == "multiclass":
        document |= {"classes": list(CLASSES)}
        document["label"]["schema"] |= {"y": "string"}
    return ModelDeclaration.model_validate(document)


def outputs_of(task: str, x: Any) -> Any:
    """A regression that doubles; or probabilities whose largest is that of the nearest class."""
    if task == "regression":
        return 2 * x
    raised = np.exp(-np.abs(x[:, None] - np.array([-1.0, 0.0, 1.0])))
    return raised / raised.sum(axis=1, keepdims=True)


def labels_of(task: str, outputs: Any, chance: np.random.Generator) -> Any:
    if task == "regression":
        return outputs + chance.normal(size=len(outputs))
    return (outputs.cumsum(axis=1) < chance.random((len(outputs), 1))).sum(axis=1).astype(float)


def known(task: str) -> records.Reference:
    chance = np.random.default_rng(1)
    x = chance.normal(size=4000)
    colours = chance.choice(scenario.COLOURS, size=4000).astype(object)
    times_ms = START_MS - np.arange(4000)[::-1] * HOUR_MS // A_HOUR
    outputs = outputs_of(task, x)
    return reference.build(
        1,
        reference.KnownRows({"x": x, "colour": colours}, times_ms),
        reference.KnownOutputs(outputs, labels_of(task, outputs, chance), times_ms),
        declaration(task),
    )


def _hour_ms(hour: int) -> int:
    """A version that learned online takes effect each hour; the first one has answered before."""
    return START_MS + hour * HOUR_MS if hour else 0


class Live:
    """An engine that gets predictions and labels, changed from an hour on."""

    def __init__(self, task: str, given: records.Reference | None, *, learns: bool = False) -> None:
        declared = declaration(task, learns=learns)
        self.task, self.learns = task, learns
        self.engine = Engine(declared, starting_state(declared, 1, 1))
        arms = [
            records.Arm(name="champion", version=hour + 1, weight=10_000, effective_from_ms=_hour_ms(hour))
            for hour in range(HOURS if learns else 1)
        ]
        self.engine.add_model(
            records.ModelChanged(model="m", arms=arms, changed_at_ms=0, reason="test", reference=given)
        )

        self.engine.references.note(scenario.prediction(0, START_MS))
        self.engine.references.give_up()  # the topic of models is read to its end

    def play(
        self, *, shift: float = 0.0, swap: bool = False, wrong: bool = False, restart: bool = False
    ) -> DriftOutputs:
        chance = np.random.default_rng(2)
        count = HOURS * A_HOUR
        changed = np.arange(count) >= CHANGE_HOUR * A_HOUR
        x = chance.normal(size=count) + shift * changed
        colours = chance.choice(scenario.COLOURS, size=count)
        outputs = outputs_of(self.task, x)
        labels = labels_of(self.task, outputs, chance)
        if swap:
            outputs[changed] = np.sort(outputs[changed], axis=1)  # as sure as before, of one class
        if wrong:
            labels[changed] = chance.permutation(labels[changed]) * (3 if self.task == "regression" else 1)
        times_ms = [START_MS + number * HOUR_MS // A_HOUR for number in range(count)]
        end_ms = START_MS + (HOURS + 5) * HOUR_MS
        predictions = [
            scenario.prediction(
                number,
                time_ms,
                features=[float(x[number]), str(colours[number])],
                shadow_scores={},
                version=number // A_HOUR + 1 if self.learns else 1,
                **self._answer(outputs[number]),
            )
            for number, time_ms in enumerate(times_ms)
        ]
        known_labels = [
            scenario.label(number, time_ms + HOUR_MS // 2, float(labels[number]))
            for number, time_ms in enumerate(times_ms)
        ]
        logs = scenario.Traffic(
            [scenario.numbered([*predictions, end_ms])], [scenario.numbered([*known_labels, end_ms])]
        )
        player, parts = scenario.Player(logs), []
        if restart:
            parts = [player.step(self.engine, place, count // 2) for place in player.open]
            self._restart()
            player.seek(self.engine)
        return scenario.merge(
            [*parts, *(player.step(self.engine, place, count + 1) for place in player.open)]
        )

    def _restart(self) -> None:
        state = msgspec.json.decode(msgspec.json.encode(self.engine.state()), type=DriftState)
        declared = declaration(self.task, learns=self.learns)
        self.engine = Engine(declared, starting_state(declared, 1, 1, state))

    def _answer(self, output: Any) -> dict[str, Any]:
        if self.task == "regression":
            return {"score": float(output), "prediction": float(output)}
        best = int(output.argmax())
        return {
            "score": float(output[best]),
            "prediction": CLASSES[best],
            "probabilities": output.tolist(),
        }


def found(outputs: DriftOutputs) -> set[tuple[str, str]]:
    return {(alarm.kind, alarm.subject) for alarm in alarms(outputs)}


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_an_unchanged_model_has_no_alarm_and_is_compared(task: str) -> None:
    outputs = Live(task, known(task)).play()
    report = reports(outputs)[2]
    assert found(outputs) == set()
    assert [each.feature for each in report.features] == ["x", "colour"]
    assert report.score is not None
    assert (report.score.drifted, report.has_reference) == (False, True)
    assert (report.prediction is not None) == (task == "multiclass")
    assert report.relations is not None


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_shifted_feature_and_the_scores_that_follow_have_alarms(task: str) -> None:
    assert found(Live(task, known(task)).play(shift=1.5)) >= {("feature", "x"), ("score", "score")}


def test_other_classes_with_the_same_confidence_are_a_change_of_the_predictions() -> None:
    outputs = Live("multiclass", known("multiclass")).play(swap=True)
    report = reports(outputs)[CHANGE_HOUR + 2]
    assert ("score", "prediction") in found(outputs)
    assert ("score", "score") not in found(outputs)
    assert report.prediction is not None
    assert report.prediction.drifted
    assert report.prediction.bins is not None
    assert report.prediction.bins.categories is not None
    assert report.prediction.bins.counts[report.prediction.bins.categories.index("high")] > A_HOUR / 2


@pytest.mark.parametrize(("task", "loss"), [("multiclass", "log_loss"), ("regression", "absolute_error")])
def test_harm_is_measured_against_the_loss_of_the_reference(task: str, loss: str) -> None:
    assert ("loss", loss) in found(Live(task, known(task)).play(wrong=True))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_without_a_reference_the_report_says_so(task: str) -> None:
    live = Live(task, None)
    outputs = live.play(shift=1.5)
    assert {(each.has_reference, len(each.features)) for each in reports(outputs)} == {(False, 0)}
    assert not any(kind in ("feature", "score", "relation") for kind, _ in found(outputs))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_restart_from_a_snapshot_changes_nothing(task: str) -> None:
    expected = Live(task, known(task)).play(shift=1.5)
    assert Live(task, known(task)).play(shift=1.5, restart=True).drift == expected.drift


def test_model_that_learns_online_is_watched_from_the_version_of_its_reference_on() -> None:
    """A new version each hour: the alarms and the loss of the reference are of all of them together."""
    given = msgspec.structs.replace(known("regression"), version=3)
    outputs = Live("regression", given, learns=True).play(shift=1.5)
    shown = reports(outputs)
    assert [each.has_reference for each in shown[:5]] == [False, False, True, True, True]
    assert shown[3].score is not None
    assert shown[3].score.bins is not None
    assert sum(shown[3].score.bins.counts) == A_HOUR
    raised = [alarm for alarm in alarms(outputs) if alarm.kind in ("feature", "score")]
    assert sorted({alarm.subject for alarm in raised}) == ["score", "x"]
    assert len(raised) == 2, "later versions raise no alarm again"
    assert all(alarm.version >= CHANGE_HOUR + 1 for alarm in raised)


def test_model_that_learns_online_is_measured_against_the_loss_of_its_reference() -> None:
    given = msgspec.structs.replace(known("regression"), version=3)
    live = Live("regression", given, learns=True)
    assert ("loss", "absolute_error") in found(live.play(wrong=True))
    assert live.engine.state().evaluator.performance.baseline.value == given.measures["absolute_error"]


def test_model_that_learns_online_continues_from_a_snapshot() -> None:
    given = msgspec.structs.replace(known("regression"), version=3)
    expected = Live("regression", given, learns=True).play(shift=1.5)
    assert Live("regression", given, learns=True).play(shift=1.5, restart=True).drift == expected.drift
