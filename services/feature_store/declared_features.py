"""Whether a declaration fits its feature service: names and types, before they fail on a request."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from services.feature_store import own_events
from services.feature_store.plan import FeaturePlan, PlanError, ServicePlan, ValueType
from services.runtime import declaration_file
from services.runtime.declaration import FILE, DeclarationError, ModelDeclaration
from services.runtime.suggestions import suggestion
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


def all_faults(declaration: ModelDeclaration, plan: FeaturePlan | None) -> list[DeclarationFault]:
    """Return everything in a declaration that does not fit the repository.

    Args:
        declaration: One that may name a feature service.
        plan: None if the repository cannot be compiled: features of a service are then not known.
    """
    if not declaration.features.service:
        inputs = declaration.features.from_request
        return list(_monitoring_faults(declaration, inputs, frozenset()))
    if plan is None:
        return []
    try:
        service = service_of(plan, declaration)
        service.check_inputs()
    except PlanError as error:
        near = suggestion(declaration.features.service, plan.services)
        return [DeclarationFault(("features", "service"), f"{error}{near}")]
    names, text = _names(declaration, service), _text_features(service)
    return [*serving_faults(declaration, service), *_monitoring_faults(declaration, names, text)]


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


def _monitoring_faults(
    declaration: ModelDeclaration, names: Sequence[str], text: AbstractSet[str]
) -> Iterator[DeclarationFault]:
    """Yield each setting that names no feature.

    Args:
        declaration: The declaration.
        names: All features of the model.
        text: Those of the service that hold text.
    """
    monitoring, gates = declaration.monitoring, declaration.gates
    groups = gates.fairness.groups if gates is not None and gates.fairness is not None else ()
    named: list[tuple[tuple[str | int, ...], str]] = [
        *((("monitoring", "segments", index), name) for index, name in enumerate(monitoring.segments)),
        *((("monitoring", "season", name), name) for name in monitoring.season),
    ]
    if declaration.features.service:  # without one, the declaration has been refused for these
        named += ((("monitoring", "quality", name), name) for name in monitoring.quality)
        named += ((("gates", "fairness", "groups", index), name) for index, name in enumerate(groups))
    for place, name in named:
        if name not in names:
            yield DeclarationFault(place, f"{name!r} is not a feature{suggestion(name, names)}")
    for number, route in enumerate(declaration.alerts.routes):
        for index, segment in enumerate(route.segments):
            name, is_segment, _ = segment.partition("=")
            if segment != "all" and (name not in monitoring.segments or not is_segment):
                place = "alerts", "routes", number, "segments", index
                near = suggestion(name, monitoring.segments)
                yield DeclarationFault(
                    place, f"{segment!r} is no segment: write all, or name=value of monitoring.segments{near}"
                )
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
