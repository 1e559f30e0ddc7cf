"""A headline and advice for each kind of alarm, in plain words: the same in messages and in reports."""

from collections.abc import Mapping

_HEADLINES: Mapping[str, str] = {
    "loss": "The model's loss is above its limit",
    "feature": "The distribution of a feature has changed",
    "category": "A feature has categories that the training data does not have",
    "relation": "The correlation of two features has changed",
    "quality": "A feature violates its declared quality rules",
    "score": "The distribution of the model's scores has changed",
    "retraining": "A retraining has finished",
    "rollout": "The serving versions have changed",
}
_ADVICE: Mapping[str, str] = {
    "loss": "If retraining is enabled, it is requested automatically unless one ran recently. Otherwise "
    "check which features and segments changed at the same time, then retrain or roll back.",
    "feature": "Check whether the data source or a feature view changed. If the change is real, wait for the "
    "labels: no action is needed while the loss stays within its limit.",
    "category": "Find out what sends the new categories. The model cannot use them until it is retrained.",
    "relation": "Check whether one of the two features comes from another source now, or arrives late. Each "
    "feature alone may look unchanged.",
    "quality": "Inform the owner of the data source: values are null, out of bounds, of a wrong type or not "
    "allowed.",
    "score": "Check which features changed at the same time, and watch the loss as the labels arrive.",
    "retraining": "The reasons are in the record of the retraining and in its MLflow run.",
    "rollout": "List the serving versions with 'driftline models list'.",
}


def headline(kind: str) -> str:
    """Return a headline for a kind of alert."""
    return _HEADLINES.get(kind, f"A change was detected ({kind})")


def advice(kind: str) -> str:
    """Return what the reader of the alert should do."""
    return _ADVICE.get(kind, "Check the report of the window, and what else changed at the same time.")
