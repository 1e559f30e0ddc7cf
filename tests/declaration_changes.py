"""Every declaration that differs from a given one in one setting, found from the declaration's own types."""

import copy
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from services.runtime.declaration import ModelDeclaration

Change = Mapping[str, Any]
"""New values by dotted path; None removes the setting."""

GROUPS = {"groups": ["colour"]}
SEGMENTS = {"monitoring.segments": ["colour"]}
STEPS = {"rollout.steps": [{"share": "5%"}, {"share": "100%"}]}
SPECIAL: Mapping[str, tuple[Change, ...]] = {
    "task": (
        {"task": "regression", "gates": None, "business": None, "label.positive_above": None},
        {"task": "multiclass", "classes": ["low", "middle", "high"], "gates": None, "business": None,
         "label.positive_above": None, "learning": None},
        {"task": "binary", "label.positive_above": 1.0},
    ),
    "classes": (
        {"task": "multiclass", "classes": ["a", "b", "c", "d"], "gates": None, "business": None,
         "label.positive_above": None, "learning": None},
    ),
    "request.id": ({"request.id": "colour2", "request.schema.colour2": "string"},),
    "request.event_time": ({"request.event_time": "at2", "request.schema.at2": "timestamp"},),
    "request.key": ({"request.key": "colour"},),
    "request.schema": ({"request.schema.y": "int"}, {"request.schema.x": "int"}),
    "request.encoding": ({"request.encoding": "avro"},),
    "features.service": ({"features.service": "other"}, {"features.service": None}),
    "features.from_request": (
        {"features.from_request": ["colour", "x"]}, {"features.from_request": ["x"]},
        {"features.from_request": ["x", "colour", "id"]},
    ),
    "features.missing.reject": ({"features.missing.reject": ["x"]},),
    "features.missing.fill": ({"features.missing.fill": {"x": 1.0}},),
    "label.id": ({"label.id": "id2", "label.schema.id2": "string"},),
    "label.event_time": ({"label.event_time": "at2", "label.schema.at2": "timestamp"},),
    "label.value": ({"label.value": "z", "label.schema.z": "float"},),
    "label.schema": ({"label.schema.z": "int"}, {"label.schema.y": "int"}),
    "label.encoding": ({"label.encoding": "avro"},),
    "label.positive_above": ({"label.positive_above": 20.0}, {"label.positive_above": 1.0, "task": "binary"}),
    "monitoring.season": ({"monitoring.season": {"x": ["hour"]}},),
    "monitoring.quality": (
        {"monitoring.quality": {}}, {"monitoring.quality": {"x": {"min": -1.0}}},
        {"monitoring.quality": {"x": {"max": 1.0}, "colour": {"allowed": ["red"]}}},
        {"monitoring.quality": {"colour": {"allowed": ["red"]}}},
    ),
    "monitoring.segments": ({"monitoring.segments": []}, {"monitoring.segments": ["colour"]}),
    "monitoring.detectors": ({"monitoring.detectors": ["adwin"]}, {"monitoring.detectors": []}),
    "business.costs": (
        {"business": {"unit": "USD", "costs": {"0": {"0": 0, "1": 7}, "1": {"0": 2, "1": 0}}}},
    ),
    "business.over": ({"business.over": 3.0}, {"business": {"unit": "USD", "over": 2.0}}),
    "business.under": ({"business.under": 3.0}, {"business": {"unit": "USD", "under": 2.0}}),
    "retraining.leak_score_max": ({"retraining.leak_score_max": 0.9},),
    "retraining.harm": ({"retraining.harm": "cost"}, {"retraining.harm": "loss"}),
    "alerts.routes": ({"alerts.routes": [{"to": "ops", "kinds": ["loss"]}]},),
    "slo.latency.within_ms": ({"slo.latency": {"objective": 0.9, "within_ms": 10}},),
    "slo.accuracy": ({"slo.accuracy": None},),
    "slo.accuracy.measure": ({"slo.accuracy": {"objective": 0.9, "measure": "answers"}},),
    "slo.accuracy.loss_tolerance": ({"slo.accuracy": {"objective": 0.9, "loss_tolerance": 0.5}},),
    "business": ({"business": None, "retraining.harm": "loss"},),
    "gates": ({"gates": None}, {"gates": {"floor": 0.5}, "learning": None}),
    "gates.metric": ({"gates.metric": "brier"},),
    "gates.limits": ({"gates.limits": {"auc": {"min": 0.5}}},),
    "gates.segments": ({"gates.segments": {}, **SEGMENTS},),
    "gates.segments.tolerance": ({"gates.segments": {"tolerance": 0.1}, **SEGMENTS},),
    "gates.segments.minimum_rows": ({"gates.segments": {"minimum_rows": 9}, **SEGMENTS},),
    "gates.fairness": ({"gates.fairness": GROUPS},),
    "gates.fairness.groups": ({"gates.fairness": {"groups": ["x"]}},),
    "gates.fairness.minimum_rows": ({"gates.fairness": {**GROUPS, "minimum_rows": 9}},),
    "gates.fairness.equal_opportunity_max": ({"gates.fairness": {**GROUPS, "equal_opportunity_max": 0.2}},),
    "gates.fairness.demographic_parity_max": (
        {"gates.fairness": {**GROUPS, "demographic_parity_max": 0.2}},
    ),
    "gates.calibration": ({"gates.calibration": {}},),
    "gates.latency": ({"gates.latency": {}},),
    "rollout.steps": (STEPS,),
    "governance.approval": ({"governance.approval": "required", **STEPS},),
    "rollout.guardrails.loss": ({"rollout.guardrails.loss": {"margin": 0.1}},),
    "rollout.guardrails.loss.maximum": ({"rollout.guardrails.loss": {"margin": 0.1, "maximum": 5.0}},),
    "rollout.guardrails.cost": ({"rollout.guardrails.cost": {"margin": 1.0}},),
    "rollout.guardrails.errors": ({"rollout.guardrails.errors": {"margin": 0.02}},),
    "rollout.guardrails.latency": ({"rollout.guardrails.latency": {"margin": 0.2}},),
    "rollout.guardrails.latency.quantile": ({"rollout.guardrails.latency": {"quantile": 0.9}},),
    "learning.reference.since": ({"learning.reference": {"since": "2013-01-01T01:00:00Z"}},),
    "learning.gates.limits": ({"learning.gates.limits": {"absolute_error": {"max": 5.0}}},),
    "learning.reference.until": ({"learning.reference": {"until": "2013-01-02T01:00:00Z"}},),
    "retraining.after_labels": ({"retraining.after_labels": 1000},),
    "retraining.recent_days": ({"retraining.recent_days": 30.0, "retraining.window": "auto"},),
    "retraining.search": ({"retraining.search": {}},),
    "retraining.search.trials": ({"retraining.search": {"trials": 9}},),
    "retraining.search.minutes": ({"retraining.search": {"minutes": 9.0}},),
    "retraining.max_rows": ({"retraining.max_rows": 1000},),
    "learning": ({"learning": {"every_hours": 3}, "gates": None}, {"learning": None}),
}  # fmt: skip
"""Settings whose new value follows from others, and sections that are added or removed."""
NUMBERS = (-1e300, -1, 0, 1e-300, 1e-9, 1, 1e9, 1e15, 1e300, 10**30)
"""From the least to the greatest; each declared bound is one more."""


def changes(document: Mapping[str, Any]) -> dict[str, list[tuple[Change, ModelDeclaration]]]:
    """Return by setting the valid declarations in which it differs; empty for one that cannot differ here."""
    base = ModelDeclaration.model_validate(document)
    found: dict[str, list[tuple[Change, ModelDeclaration]]] = {}
    for path, annotation, value in _settings(ModelDeclaration, base, ""):
        if get_origin(annotation) is Literal and len(get_args(annotation)) == 1:
            continue  # it has no other value
        found[path] = [
            (change, changed)
            for change in SPECIAL.get(path, ()) or [{path: each} for each in _others(annotation, value)]
            if (changed := _validated(patched(document, change))) is not None and changed != base
        ]
    return found


def extremes(document: Mapping[str, Any]) -> dict[str, list[ModelDeclaration]]:
    """Return by setting that is a number the valid declarations with its least and its greatest value."""
    base = ModelDeclaration.model_validate(document)
    found: dict[str, list[ModelDeclaration]] = {}
    for path, annotation, _ in _settings(ModelDeclaration, base, ""):
        if not {int, float} & {annotation, *get_args(annotation)} or path in SPECIAL_NUMBERS:
            continue
        numbers = sorted({*NUMBERS, *_bounds(path)})
        valid = [each for number in numbers if (each := _validated(patched(document, {path: number})))]
        found[path] = [*valid[:1], *valid[-1:]]
    return found


SPECIAL_NUMBERS = ("slo.latency.within_ms",)
"""Settings that have some values only."""


def _bounds(path: str) -> set[float]:
    """Return the declared bounds of a setting."""
    *sections, name = path.split(".")
    kind: type[BaseModel] = ModelDeclaration
    for each in sections:
        section, _ = _section(_field(kind, each).annotation)
        assert section is not None
        kind = section
    declared = [getattr(each, bound, None) for each in _field(kind, name).metadata for bound in ("ge", "le")]
    return {float(bound) for bound in declared if bound is not None}


def _field(kind: type[BaseModel], name: str) -> Any:
    return next(field for own, field in kind.model_fields.items() if name in (own, field.alias))


def _settings(kind: type[BaseModel], value: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, annotation and value of every setting; a section that may be missing is one, too."""
    for name, field in kind.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        here = getattr(value, name, None) if value is not None else None
        section, optional = _section(field.annotation)
        if section is None or optional:
            yield path, field.annotation, here
        if section is not None:
            yield from _settings(section, here, f"{path}.")


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    optional = get_origin(annotation) is UnionType
    kind = get_args(annotation)[0] if optional else annotation
    return (kind, optional) if isinstance(kind, type) and issubclass(kind, BaseModel) else (None, optional)


def _others(annotation: Any, value: Any) -> list[Any]:
    """Return other values of a setting's type."""
    if get_origin(annotation) is Literal:
        return [each for each in get_args(annotation) if each != value]
    section, _ = _section(annotation)
    if section is not None:
        return [None] if value is not None else [{"objective": 0.9}, {"objective": 0.9, "within_ms": 10}]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value / 2, value + 1, 0.5]
    return [f"{value}2", "other"] if isinstance(value, str) else [0.5, "other"]


def patched(document: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Return a copy of a document with some settings changed."""
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    for path, value in change.items():
        *sections, name = path.split(".")
        section = changed
        for each in sections:
            section = section.setdefault(each, {})
        if value is None:
            section.pop(name, None)
        else:
            section[name] = value
    return changed


def _validated(document: Mapping[str, Any]) -> ModelDeclaration | None:
    try:
        return ModelDeclaration.model_validate(document)
    except ValidationError:
        return None
