"""What values depend on, as digests: of the stored rows of a view, and of each served feature.

Values of another definition have another meaning.
"""

import hashlib

import msgspec

from services.feature_store.plan import FeatureAggregation, OwnEvent, ServicePlan, View

_INDEPENDENT = frozenset({"ttl_ms", "batch_file"})
"""Attributes of a view that its rows do not depend on."""


def digest(project: str, view: View) -> str:
    """Return a digest of everything that a view's rows depend on: 32 hexadecimal digits."""
    attributes = {name: getattr(view, name) for name in view.__dataclass_fields__ if name not in _INDEPENDENT}
    return hashlib.sha256(msgspec.json.encode([project, attributes])).hexdigest()[:32]


def short_digest(project: str, view: View) -> int:
    """Return the first 32 bits of `digest`, which every row carries."""
    return int(digest(project, view)[:8], 16)


def of_service(service: ServicePlan) -> dict[str, str]:
    """Return a digest of what the values of each feature of a service mean, by feature: 8 digits.

    It does not depend on the other features of the view, nor on settings that only say when a value is
    available, such as the lateness: a row that was logged before such a change can still be trained on.
    """
    views = {view.name: view for view in service.views}
    own = {view.name: service.own_event for view in service.own_views}
    return {
        each.feature: _of_feature(views[each.view], each.feature, own.get(each.view))
        for each in service.references
    }


def _of_feature(view: View, feature: str, own_event: OwnEvent | None) -> str:
    aggregation = next((each for each in view.aggregations if each.feature == feature), None)
    source = view.source
    meaning = [
        view.kind,
        [key.name for key in view.join_keys],
        None if source is None else [source.topic, source.event_time],
        feature if aggregation is None else _meaning_of(aggregation),
        0 if aggregation is None else view.hop_ms,
    ]
    if own_event is not None:
        meaning.append({"own_event": own_event.is_included})
    return hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:8]


def _meaning_of(aggregation: FeatureAggregation) -> dict[str, object]:
    names = aggregation.__dataclass_fields__
    return {name: getattr(aggregation, name) for name in names if name != "feature"}
