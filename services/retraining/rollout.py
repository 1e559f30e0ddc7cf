"""The arms after a promotion. Pure."""

from collections.abc import Sequence

from services.model_registry import traffic_split
from services.runtime.declaration import HOUR_MS, ModelDeclaration
from streams.records import Arm, ModelChanged, Reference, ReferenceName, RetrainingRequested


def changes(
    declaration: ModelDeclaration,
    request: RetrainingRequested,
    reference: Reference | ReferenceName,
    latest: ModelChanged | None,
) -> list[ModelChanged]:
    """Return the change that promotes ``reference.version``; none if the latest change includes it.

    The latest change holds the id of its request, so that a request is published once even after a crash.
    """
    if latest is not None and latest.request_id == request.request_id:
        return []
    previous = [] if latest is None else latest.arms
    return [
        ModelChanged(
            model=declaration.name,
            arms=arms_after(declaration, request, previous, reference.version),
            changed_at_ms=request.requested_at_ms,
            reason=f"{request.trigger}: {request.reason}",
            request_id=request.request_id,
            reference=reference if isinstance(reference, Reference) else None,
            reference_name=reference if isinstance(reference, ReferenceName) else None,
        )
    ]


def arms_after(
    declaration: ModelDeclaration, request: RetrainingRequested, previous: Sequence[Arm], version: int
) -> list[Arm]:
    """Return the arms: outgoing champions that still score, the new champion, challengers and shadows.

    The champion gets the share that the challengers leave; a challenger with the champion's version ends.

    The first model is in effect at once, because nothing scores before it. It is kept as a shadow if
    ``rollout.keep_first_as_shadow`` names one.
    """
    now_ms = request.requested_at_ms
    delay_ms = round(declaration.retraining.effective_after_hours * HOUR_MS) if previous else 0
    starts_ms = now_ms + delay_ms
    arms = traffic_split.with_champion(previous, version, effective_from_ms=starts_ms, now_ms=now_ms)
    name = declaration.rollout.keep_first_as_shadow
    if not previous and name is not None:
        arms.append(Arm(name=name, version=version, weight=0, effective_from_ms=starts_ms, shadow=True))
    return arms
