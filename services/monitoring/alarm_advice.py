"""What an alarm means and what to do about it, in plain words: the same in messages and in reports."""

from collections.abc import Mapping

_WHAT: Mapping[str, str] = {
    "loss": "The answers are worse than training promised",
    "feature": "An input has changed",
    "category": "An input has values that training never saw",
    "relation": "Two inputs no longer go together as they did",
    "quality": "An input is not as declared",
    "score": "The answers themselves have changed",
    "retraining": "A retraining ended",
    "rollout": "Another version answers",
}
_TO_DO: Mapping[str, str] = {
    "loss": "A model that is retrained here asks for it by itself, unless that was done of late. Else look "
    "at the features and segments that changed with it, and train or roll back.",
    "feature": "Look whether the source or a feature view changed. If the world did, wait for the labels: "
    "without harm nothing has to be done.",
    "category": "Find out what sends the new values. The model does not know them until it is trained again.",
    "relation": "Look whether one of them comes from elsewhere now, or is late. Each alone may look as ever.",
    "quality": "Tell whoever sends it: values are null, out of bounds, of a wrong type or not allowed.",
    "score": "Look which inputs changed at the same time, and watch the loss as the labels come.",
    "retraining": "The reasons stand in its record and in its run in MLflow.",
    "rollout": "See which versions answer with 'driftline models list'.",
}


def what(kind: str) -> str:
    """Return a headline for a kind of alert."""
    return _WHAT.get(kind, f"Something changed ({kind})")


def to_do(kind: str) -> str:
    """Return what those who are told should do."""
    return _TO_DO.get(kind, "Look at the report of the window and at what changed with it.")
