"""``driftline features skew``: compare served features with recomputed ones."""


def skew(*, every: float | None = None, model: str | None = None) -> None:
    """Recompute a sample of the served features from archive and batch sources, and print the differences.

    Each run compares what has become complete since the last run, and prints the report of all runs so far.
    The report is kept in skew/<model>.json in the home folder; delete that file to compare everything again.
    The exit code is 1 if the report has a value that differs.

    Args:
        every: Repeat until stopped, with this pause in seconds between runs; metrics are on skew_port.
        model: Only this model; default: all declared models.
    """
    from services.features.offline import skew_run  # late: imports DuckDB, pyarrow and Kafka's client, 1 s

    skew_run.run(every=every, model=model)
