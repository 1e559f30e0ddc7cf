"""References of one feature."""

from streams.records import FeatureReference


def weekday_reference(season=("weekday",)):
    """Return a reference in which each weekday is a value, 1,000 times."""
    seasons = {str(day): [1000 if each == day else 0 for each in range(8)] for day in range(7)}
    return FeatureReference(
        feature="weekday", counts=[1000] * 7, missing=0, edges=[0.5, 1.5, 2.5, 3.5, 4.5, 5.5],
        season=list(season), seasons=seasons if season else {},
    )  # fmt: skip
