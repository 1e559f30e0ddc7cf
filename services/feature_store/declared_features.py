"""Whether a declaration fits its feature service: names and types, before they fail on a request."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from services.feature_store import own_events
from services.feature_store.plan import FeaturePlan, PlanError, ServicePlan, ValueType
from services.runtime import declaration_file
from services.runtime.declaration import FILE, DeclarationError, ModelDeclaration
from streams.codec import FieldType

_KEY_FIELDS = {
    ValueType.STRING: FieldType.STRING,
    ValueType.INT32: FieldType.INT,
    ValueType.INT64: FieldType.INT,
}
"""The field type of a request that a join key of each type needs."""


class DeclarationFault(NamedTuple):
    """What is wrong with a setting."""

    place: tuple[str | int, ...]
    """The path of the setting in model.yaml."""
    text: str


def service_of(plan: FeaturePlan, declaration: ModelDeclaration) -> ServicePlan:
    """Return the plan of a model's feature service, for its requests; raise `PlanError` without one."""
    features = declaration.features
    return plan.service(features.service).for_requests(declaration.request.topic, features.own_event)


def all_faults(declaration: ModelDeclaration, plan: FeaturePlan) -> list[DeclarationFault]:
    """Return everything in a declaration that does not fit the repository."""
    try:
        service = service_of(plan, declaration)
        service.check_inputs()
    except PlanError as error:
        near = suggestion(declaration.features.service, plan.services)
        return [DeclarationFault(("features", "service"), f"{error}{near}")]
    return [*serving_faults(declaration, service), *_monitoring_faults(declaration, service)]


def serving_faults(declaration: ModelDeclaration, service: ServicePlan) -> list[DeclarationFault]:
    """Return what would fail when features are read for a request."""
    return [
        *_key_faults(declaration, service),
        *_clashes(declaration, service),
        *_missing_faults(declaration, service),
        *_own_event_faults(declaration, service),
    ]


def require(models: Path, declaration: ModelDeclaration, service: ServicePlan) -> None:
    """Raise `DeclarationError` with the position of each setting that would fail on a request.

    Args:
        models: The folder of the models.
        declaration: The declaration of one of them.
        service: Its feature service.
    """
    if faults := serving_faults(declaration, service):
        path = models / declaration.name / FILE
        raise DeclarationError("\n".join(declaration_file.positioned(path, faults)))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a hint at the most similar of the known names, or at all of them.

    >>> suggestion("amuont", ["amount", "device"])
    ' (did you mean amount?)'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else f"; known are {', '.join(names) or 'none'}"


def _key_faults(declaration: ModelDeclaration, service: ServicePlan) -> Iterator[DeclarationFault]:
    fields = {field.name: field.type for field in declaration.request.fields}
    keys = {key.name: key.type for view in service.views for key in view.join_keys}
    for name, kind in keys.items():
        wanted = _KEY_FIELDS.get(kind)
        if name not in fields:
            yield DeclarationFault(
                ("request", "schema"),
                f"the feature service {service.name!r} needs the join key {name!r}, which is not a field: "
                f"declare it as {wanted or kind}{suggestion(name, fields)}",
            )
        elif wanted is not None and fields[name] is not wanted:
            yield DeclarationFault(
                ("request", "schema", name),
                f"the feature service {service.name!r} needs the join key {name!r} as {kind}, but the schema "
                f"declares {fields[name]}: declare it as {wanted}",
            )


def _clashes(declaration: ModelDeclaration, service: ServicePlan) -> Iterator[DeclarationFault]:
    for index, name in enumerate(declaration.features.from_request):
        if name in service.feature_names:
            yield DeclarationFault(
                ("features", "from_request", index),
                f"{name!r} is also a feature of the service {service.name!r}: rename one of them",
            )


def _missing_faults(declaration: ModelDeclaration, service: ServicePlan) -> Iterator[DeclarationFault]:
    names, missing = _names(declaration, service), declaration.features.missing
    for index, name in enumerate(missing.reject):
        if name not in names:
            place = "features", "missing", "reject", index
            yield DeclarationFault(place, f"{name!r} is not a feature{suggestion(name, names)}")
    text = _text_features(service)
    for name, value in missing.fill.items():
        where = ("features", "missing", "fill", name)
        if name not in names:
            yield DeclarationFault(where, f"{name!r} is not a feature{suggestion(name, names)}")
        elif name in service.feature_names and (name in text) is not isinstance(value, str):
            yield DeclarationFault(
                where, f"{value!r} is not a {'text' if name in text else 'number'}, as {name} is"
            )


def _own_event_faults(declaration: ModelDeclaration, service: ServicePlan) -> Iterator[DeclarationFault]:
    """Return the fields that a request lacks to count in its own features."""
    if service.own_event is None or not service.own_event.is_included:
        return
    fields = {field.name for field in declaration.request.fields}
    for view in service.own_views:
        for name in sorted(own_events.fields_of(view) - fields):
            yield DeclarationFault(
                ("request", "schema"),
                f"the view {view.name!r} reads the requests themselves, and needs their field {name!r}: "
                "declare it, or declare features.own_event: excluded",
            )


def _monitoring_faults(declaration: ModelDeclaration, service: ServicePlan) -> Iterator[DeclarationFault]:
    names, monitoring = _names(declaration, service), declaration.monitoring
    named: list[tuple[tuple[str | int, ...], str]] = [
        *((("segments", index), name) for index, name in enumerate(monitoring.segments)),
        *((("season", name), name) for name in monitoring.season),
        *((("quality", name), name) for name in monitoring.quality),
    ]
    for place, name in named:
        if name not in names:
            yield DeclarationFault(
                ("monitoring", *place), f"{name!r} is not a feature{suggestion(name, names)}"
            )
    text = _text_features(service)
    for name, bounds in monitoring.quality.items():
        if name in text and (bounds.min is not None or bounds.max is not None):
            yield DeclarationFault(
                ("monitoring", "quality", name), f"{name} holds text: min and max are not possible"
            )


def _names(declaration: ModelDeclaration, service: ServicePlan) -> Sequence[str]:
    return [*declaration.features.from_request, *service.feature_names]


def _text_features(service: ServicePlan) -> set[str]:
    types = {(view.name, feature.name): feature.type for view in service.views for feature in view.features}
    return {
        reference.feature
        for reference in service.references
        if types[reference.view, reference.feature] is ValueType.STRING
    }
