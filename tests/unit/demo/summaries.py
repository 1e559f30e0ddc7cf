"""Summaries of demos for the tests of what is made of them."""

from services.demo import summary
from services.demo.account import RequestAccount
from services.demo.summary import DemoSummary, Durations


def empty() -> DemoSummary:
    """Return the summary of a demo in which nothing was answered."""
    return summary.summarise(
        RequestAccount("late", "asked", "frozen"),
        None,
        [],
        complete=True,
        faults=[],
        seconds=1.0,
        events_sent=1,
        requests_sent=1,
        position_ms=0,
        durations=Durations(),
        cpu_seconds={},
    )
