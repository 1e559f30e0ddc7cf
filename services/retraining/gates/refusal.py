"""The gates that a candidate must pass to become champion. Pure."""

from services.retraining.evaluation import ClassifierMetrics
from services.runtime.declaration import Gates


def refusals(gates: Gates, candidate: ClassifierMetrics, champion: ClassifierMetrics | None) -> list[str]:
    """Return the reasons to refuse the candidate; an empty list if it passes.

    Both metrics are of the same held-out rows. Without a champion only the floor applies. A metric that is
    nan never passes.
    """
    reasons = []
    if gates.floor is not None and not candidate.log_loss <= gates.floor:
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
