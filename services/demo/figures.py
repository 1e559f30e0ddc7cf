"""What a companion adds to the summary: the keys ``minutes`` and ``periods``."""

import msgspec


class MinutesLine(msgspec.Struct, kw_only=True, frozen=True):
    """One month of the model that learns online: mean absolute errors in minutes."""

    month: str
    labels: int
    mae_live: float
    mae_running_mean: float


class MinutesSummary(msgspec.Struct, kw_only=True, frozen=True):
    """Result of the model that learns online."""

    predicted: int = 0
    collected: int = 0
    """Requests before its first version took effect."""
    repeats: int = 0
    version: int = 0
    """The latest version that answered."""
    months: list[MinutesLine] = []


class PeriodLine(msgspec.Struct, kw_only=True, frozen=True, rename={"from_": "from"}):
    """Some days of requests, with the labels that they have in truth."""

    from_: str
    """Event time of the first request, UTC."""
    before_change: bool
    """Whether the period ended before the world changed."""
    requests: int
    positives: int
    average_precision_live: float | None
    """Average precision of the answers; None without both labels."""
    average_precision_frozen: float | None
    """The same of the first model's scores for the same requests."""
    log_loss_shown: float | None
    """Mean log loss that the performance reports showed, when they first called it mature."""
    log_loss_true: float | None


class Figures(msgspec.Struct, kw_only=True, frozen=True):
    """The figures of a companion; empty where it has none."""

    minutes: MinutesSummary = MinutesSummary()
    periods: list[PeriodLine] = []
