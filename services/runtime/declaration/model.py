"""The content of one model.yaml, and the checks that concern several sections."""

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from services.runtime.declaration.alerts import Alerts
from services.runtime.declaration.application_topics import LabelTopic, RequestTopic
from services.runtime.declaration.business import Business
from services.runtime.declaration.features import Features
from services.runtime.declaration.gates import Gates
from services.runtime.declaration.governance import Governance
from services.runtime.declaration.learning import Learning
from services.runtime.declaration.limits import Limits
from services.runtime.declaration.monitoring import Monitoring
from services.runtime.declaration.objectives import Slo
from services.runtime.declaration.retraining import Retraining
from services.runtime.declaration.rollout import Rollout
from services.runtime.declaration.strict import Strict
from services.runtime.suggestions import suggestion
from streams import codec

MULTICLASS_MIN = 3
EACH_ALONE = "each section alone"
_NUMBERS = (codec.FieldType.INT, codec.FieldType.FLOAT, codec.FieldType.BOOL)
_LABEL_TYPES = {
    "binary": _NUMBERS,
    "regression": _NUMBERS,
    "multiclass": (codec.FieldType.STRING, *_NUMBERS),
}
"""The types that the value of a label may have, by task."""


class ModelDeclaration(Strict):
    """The content of one model.yaml."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    owner: str
    team: str = Field("", pattern=r"^[a-z0-9_-]*$")
    """The team whose tokens may request predictions; trusted teams may use models with code, see the
    settings."""
    task: Literal["binary", "multiclass", "regression"]
    threshold: float = Field(0.5, ge=0, le=1)
    """Binary: the score from which the prediction is 1."""
    classes: tuple[str, ...] = ()
    """Multiclass: the classes of predictions and labels, in the order of the model's probabilities."""
    request: RequestTopic
    features: Features
    label: LabelTopic
    monitoring: Monitoring = Monitoring()
    business: Business | None = None
    """None: no costs are declared."""
    retraining: Retraining = Retraining()
    gates: Gates | None = None
    """None: the model is not retrained here."""
    learning: Learning | None = None
    """None: the model does not learn online."""
    rollout: Rollout = Rollout()
    governance: Governance = Governance()
    limits: Limits = Limits()
    alerts: Alerts = Alerts()
    slo: Slo = Slo()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the label, in the order of their indices; empty for a regression."""
        return ("0", "1") if self.task == "binary" else self.classes

    @property
    def is_retrained(self) -> bool:
        """Whether drift may request a retraining."""
        return self.gates is not None

    @model_validator(mode="after")
    def _check_sections(self, info: ValidationInfo) -> Self:
        """Check what concerns several sections; report all faults at once, each in a line.

        Not with `EACH_ALONE` as the context of a validation.
        """
        if info.context is EACH_ALONE:
            return self
        faults = [
            *self._task_faults(),
            *self._gate_faults(),
            *self._rollout_faults(),
            *self._governance_faults(),
            *self._business_faults(),
            *self._feature_faults(),
            *self._label_faults(),
        ]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _task_faults(self) -> Iterator[str]:
        if self.task == "binary" and self.label.positive_above is None:
            yield "label.positive_above: a binary model needs it: the label is 1 above this value"
        if (self.task == "multiclass") != (len(self.classes) >= MULTICLASS_MIN):
            yield f"classes: a multiclass model needs {MULTICLASS_MIN} or more, other tasks must not have any"
        if self.learning is not None and self.gates is not None:
            yield "learning: a model either learns online or is retrained; remove learning or gates"
        if self.task == "regression" and self.slo.accuracy is not None:
            yield "slo.accuracy: not measured for a regression; use the alarm on its loss"
        if self.task == "regression" and self.retraining.calibration != "none":
            yield "retraining.calibration: a regression predicts no probabilities; remove it"
        if self.learning is not None and self.task == "multiclass":
            yield "learning: only binary models and regressions can learn online"
        if self.learning is not None:
            yield from self.learning.gates.faults(self.task, has_costs=self.business is not None)

    def _gate_faults(self) -> Iterator[str]:
        if self.gates is None:
            return
        has_segments = bool(self.monitoring.segments)
        yield from self.gates.faults(
            self.task, has_costs=self.business is not None, has_segments=has_segments
        )
        for name in self.gates.fairness.groups if self.gates.fairness else ():
            if not self.features.service and name not in self.features.from_request:
                near = suggestion(name, self.features.from_request)
                yield f"gates.fairness.groups names {name!r}, which is not a feature{near}"

    def _rollout_faults(self) -> Iterator[str]:
        guardrails = self.rollout.guardrails
        if self.learning is not None and self.rollout.steps:
            yield "rollout.steps: not possible for a model that learns online; remove the steps"
        if guardrails.cost is not None and self.business is None:
            yield "rollout.guardrails.cost: needs a section business that declares the costs"
        loss = guardrails.loss
        if self.task == "regression" and loss is not None and "maximum" not in loss.model_fields_set:
            yield "rollout.guardrails.loss.maximum: a regression needs it: larger errors count as this"
        if loss is not None and loss.margin >= loss.maximum:
            yield "rollout.guardrails.loss.margin: must be below the maximum"

    def _governance_faults(self) -> Iterator[str]:
        """Yield what is wrong with an approval that nothing would wait for."""
        if self.governance.approval == "none":
            return
        if self.learning is not None:
            yield (
                "governance.approval: a model that learns online has a new version in each interval, which "
                "no person can approve; remove approval or learning"
            )
        if self.gates is not None and not self.rollout.steps:
            yield (
                "governance.approval: without rollout.steps a retrained version is the champion at once; "
                "declare steps, of which the first begins after the approval"
            )

    def _business_faults(self) -> Iterator[str]:
        if self.business is None:
            if self.retraining.harm == "cost":
                yield "retraining.harm: cost needs a section business that declares the costs"
            return
        names, rates = set(self.class_names), (self.business.over, self.business.under)
        if not names and (self.business.costs or not any(rates)):
            yield "business: a regression declares over and under, at least one above 0, not costs"
        if names and any(rates):
            yield "business: over and under are for regressions; this task declares costs by class"
            return
        for answer in sorted(names and {*names, *self.business.costs}):
            if set(self.business.costs.get(answer, ())) != names or answer not in names:
                known = ", ".join(self.class_names)
                yield (
                    f"business.costs: needs a cost for each pair of prediction and label, both of {known}; "
                    f"see the prediction {answer!r}"
                )

    def _feature_faults(self) -> Iterator[str]:
        request = [field.name for field in self.request.fields]
        if len(set(self.features.from_request)) < len(self.features.from_request):
            yield "features.from_request names a field twice: name each field once"
        for name in self.features.from_request:
            if name not in request:
                near = suggestion(name, request)
                yield f"features.from_request names {name!r}, which is not a field of request.schema{near}"
        types = {field.name: field.type for field in self.request.fields}
        for name, bounds in self.monitoring.quality.items():
            if not self.features.service and name not in self.features.from_request:
                near = suggestion(name, self.features.from_request)
                yield f"monitoring.quality names {name!r}, which is not a feature{near}"
            is_text = types.get(name) is codec.FieldType.STRING and name in self.features.from_request
            if is_text and (bounds.min is not None or bounds.max is not None):
                yield f"monitoring.quality.{name}: min and max are not possible for a string"
        yield from self._fill_faults(types)

    def _fill_faults(self, types: Mapping[str, codec.FieldType]) -> Iterator[str]:
        """Check the values in place of missing fields of the request; the service's are not known here."""
        for name, value in self.features.missing.fill.items():
            if name in self.features.from_request and name in types:
                is_text = types[name] in (codec.FieldType.STRING, codec.FieldType.TIMESTAMP)
                if is_text is not isinstance(value, str):
                    yield f"features.missing.fill.{name}: {value!r} is not a {types[name]}"

    def _label_faults(self) -> Iterator[str]:
        kinds = {field.name: field.type for field in self.label.fields}
        kind = kinds.get(self.label.value)
        if kind is None:
            near = suggestion(self.label.value, kinds)
            yield f"label.value names {self.label.value!r}, which is not a field of label.schema{near}"
        elif kind not in _LABEL_TYPES[self.task]:
            known = ", ".join(_LABEL_TYPES[self.task])
            yield (
                f"label.value names {self.label.value!r}, a {kind}: a {self.task} model needs one of {known}"
            )
        if len(set(self.classes)) < len(self.classes):
            yield "classes names a class twice: name each class once"
        if self.label.absent is not None and kind is not None:
            yield from self._absent_faults()

    def _absent_faults(self) -> Iterator[str]:
        if fault := self.label.absent_fault(self.classes):
            yield fault
        label_ms = self.rollout.label_ms(self.label.horizon_ms)
        if label_ms < self.label.horizon_ms:
            yield "rollout.label_hours: with label.absent none counts before label.horizon_hours; remove it"
        if self.gates is not None and self.monitoring.sample < 1:
            yield (
                "label.absent: drift joins the labels of a sample (monitoring.sample), so a training set "
                "cannot tell which of the others have none; remove monitoring.sample or gates"
            )


def learning_models(declarations: Mapping[str, ModelDeclaration]) -> dict[str, ModelDeclaration]:
    """Return the models that learn online."""
    return {name: one for name, one in declarations.items() if one.learning is not None}
