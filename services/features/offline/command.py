"""``driftline features backfill``."""


def backfill() -> None:
    """Not yet."""
