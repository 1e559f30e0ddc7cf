"""Whether a candidate may become champion. Pure."""

from services.retraining.evaluation import Metrics
from services.runtime.declaration import Gates


def refusals(gates: Gates, candidate: Metrics, champion: Metrics | None) -> list[str]:
    """Return why the candidate is refused; an empty list lets it pass.

    Both metrics are of the same held-out rows. Without a champion the floor alone decides. A metric
    that is not a number never passes.
    """
    reasons = []
    if not candidate.log_loss <= gates.floor:
        reasons.append(
            f"log loss {candidate.log_loss:.4f} on the held-out days is above the floor of {gates.floor:g}"
        )
    if champion is not None and not candidate.log_loss <= champion.log_loss - gates.margin:
        fault = (
            f"does not beat the champion's {champion.log_loss:.4f} by the margin of {gates.margin:g}"
            if gates.margin >= 0
            else f"is worse than the champion's {champion.log_loss:.4f} by more than {-gates.margin:g}"
        )
        reasons.append(f"log loss {candidate.log_loss:.4f} on the held-out days {fault}")
    return reasons
