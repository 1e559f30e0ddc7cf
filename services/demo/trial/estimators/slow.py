"""A candidate that is better than the champion, and many times as slow: a forest votes beside the trees."""

from typing import Any

from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.pipeline import Pipeline

from models.arrival_delay import training

FOREST_TREES = 10


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return an unfitted pipeline from a frame of these columns to the probability of a late arrival."""
    pipeline = training.estimator(categorical, numeric)
    (columns_name, columns), (trees_name, trees) = pipeline.steps
    forest = RandomForestClassifier(
        FOREST_TREES, min_samples_leaf=60, max_samples=0.2, random_state=training.RANDOM_STATE
    )
    voting = VotingClassifier([("trees", trees), ("forest", forest)], voting="soft")
    return Pipeline([(columns_name, columns), (trees_name, voting)])
