"""When Redis may forget an entity: once no value of it can be served any more."""

from collections.abc import Sequence

from services.feature_store.plan import View, ViewKind
from streams import spans

MARGIN_MS = 2 * 86_400_000
"""Maximum delay of the process, and maximum age of a request relative to its entity's newest event."""


def seconds(views: Sequence[View], view: View) -> int:
    """Return the wall time after its last write at which an entity expires; 0: never.

    All views with the same join keys share the entity's hash, so the longest of them decides. The hash never
    expires if one of them has no ttl or keeps an aggregate over the whole life, or if Feast writes one of
    them: Feast's writes would not extend its life.

    Args:
        views: All views of the project.
        view: A stream view.
    """
    sharing = [each for each in views if each.join_keys == view.join_keys]
    reaches_ms = [_reach_ms(each) for each in sharing]
    if None in reaches_ms:
        return 0
    return -(-(max(reach for reach in reaches_ms if reach is not None) + MARGIN_MS) // 1000)


def _reach_ms(view: View) -> int | None:
    """Return how long after an event a value may depend on it; None: always."""
    if view.kind is ViewKind.BATCH or not view.ttl_ms:
        return None
    if any(not item.window_ms for item in view.aggregations):
        return None
    windows_ms = [spans.reach_ms(item, view.hop_ms) + item.gap_ms for item in view.aggregations]
    lateness_ms = view.source.lateness_ms if view.source else 0
    return max([view.ttl_ms, *windows_ms]) + lateness_ms
