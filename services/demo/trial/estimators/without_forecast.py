"""The estimator of arrival_delay, which does not use the airline's forecast: the champion of the trial."""

from typing import Any

from models.arrival_delay import training

FORECAST = "airline_forecast"


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return an unfitted pipeline from a frame of these columns to the probability of a late arrival."""
    return training.estimator(categorical, [name for name in numeric if name != FORECAST])
