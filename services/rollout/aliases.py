"""MLflow's aliases of a model: they name the versions that its arms have.

The arms decide. An alias that somebody else has moved is put back, and during a rollout it ends the rollout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.model_registry.mlflow_client import CHALLENGER, PREVIOUS
from services.model_registry.traffic_split import CHAMPION
from services.rollout import rollout_arms
from streams.records import Arm


def wanted(arms: Sequence[Arm], known: Mapping[str, int]) -> dict[str, int]:
    """Return the aliases that differ from the arms, with the versions that they should have.

    Args:
        arms: Of the model.
        known: The aliases as they are.
    """
    champion = rollout_arms.champion_of(arms)
    found = {}
    if champion and known.get(CHAMPION) != champion:
        found[CHAMPION] = champion
        if CHAMPION in known and known.get(PREVIOUS) != known[CHAMPION]:
            found[PREVIOUS] = known[CHAMPION]
    own = [
        arm
        for arm in arms
        if arm.name == rollout_arms.CHALLENGER and (arm.shadow or arm.weight) and arm.version != champion
    ]
    if own and known.get(CHALLENGER) != own[-1].version:
        found[CHALLENGER] = own[-1].version
    return found


def read(client: Any, model: str) -> dict[str, int] | None:
    """Return the aliases of a model; None if the registry does not have it, as with models that learn."""
    from mlflow.exceptions import MlflowException  # late: imports MLflow, 3 s

    try:
        return {name: int(version) for name, version in client.get_registered_model(model).aliases.items()}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def reconcile(client: Any, model: str, arms: Sequence[Arm]) -> dict[str, int]:
    """Let the aliases of a model name the versions of its arms; return those that were moved.

    ``previous`` is moved first: after a crash in between it names the champion of before already.

    Raises an outage if the registry is away; a version that it does not have keeps its alias.
    """
    known = read(client, model)
    if known is None:
        return {}
    moved = {}
    for alias, version in sorted(wanted(arms, known).items(), key=lambda each: each[0] != PREVIOUS):
        if _has_version(client, model, version):
            client.set_registered_model_alias(model, alias, str(version))
            moved[alias] = version
    return moved


def _has_version(client: Any, model: str, version: int) -> bool:
    from mlflow.exceptions import MlflowException  # late: imports MLflow, 3 s

    try:
        client.get_model_version(model, str(version))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True
