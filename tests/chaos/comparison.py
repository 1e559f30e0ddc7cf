"""What must be equal in a disturbed run and in the calm one, and what differs."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Source = tuple[str, int, int]
"""Topic, partition and offset of a record."""

COUNTED = (
    "requests_sent",
    "predicted",
    "collected",
    "labels_joined",
    "labels_orphaned",
    "predictions_unlabelled",
)
COMPARED = (*COUNTED, "months", "alarms")
MINUTES_COMPARED = ("predicted", "collected", "version", "months")
"""The same of the model that learns online."""
RETRAINING_COMPARED = ("time", "trigger", "version", "result", "rows")
DIGITS = 9
"""Decimals of compared floats: sums over slices of other sizes differ in the last bits."""


def differences(calm: Mapping[str, Any], disturbed: Mapping[str, Any]) -> list[str]:
    """Return what differs between two summaries, and what went wrong in the disturbed run."""
    found = list(_different("", COMPARED, calm, disturbed))
    found += _different("minutes ", MINUTES_COMPARED, calm["minutes"], disturbed["minutes"])
    retrainings = [[_outcome(each) for each in summary["retrainings"]] for summary in (calm, disturbed)]
    if retrainings[0] != retrainings[1]:
        found.append(f"retrainings: {retrainings[1]} instead of {retrainings[0]}")
    if not disturbed["complete"]:
        found.append("the run was not complete")
    return found + [f"fault: {fault}" for fault in disturbed["faults"]]


def letter_faults(
    garbage: Mapping[Source, str], refused: Collection[Source], letters: Mapping[Source, str]
) -> list[str]:
    """Return what is wrong with the dead letters of a disturbed run.

    Args:
        garbage: The kind of each record that was written beside the demo.
        refused: Those of them that must have a dead letter.
        letters: The reason of each dead letter, by the record that failed.
    """
    found = [
        f"a dead letter of a record of the demo, {_named(source)}: {reason}"
        for source, reason in letters.items()
        if source not in garbage
    ]
    return found + [
        f"no dead letter of {garbage[source]}, {_named(source)}"
        for source in sorted(refused)
        if source not in letters
    ]


def _named(source: Source) -> str:
    topic, partition, offset = source
    return f"{topic}, partition {partition}, offset {offset}"


def _different(
    prefix: str, names: tuple[str, ...], calm: Mapping[str, Any], disturbed: Mapping[str, Any]
) -> Iterator[str]:
    for name in names:
        if rounded(disturbed[name]) != rounded(calm[name]):
            yield f"{prefix}{name}: {disturbed[name]} instead of {calm[name]}"


def _outcome(retraining: Mapping[str, Any]) -> list[Any]:
    return [retraining[name] for name in RETRAINING_COMPARED]


def rounded(value: Any) -> Any:
    """Return a value in which each float has `DIGITS` decimals."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return {key: rounded(each) for key, each in value.items()} if isinstance(value, dict) else value


def described(summary: Mapping[str, Any]) -> str:
    """Return in one line what a summary holds of what is compared.

    >>> described({"requests_sent": 2500, "predicted": 2500, "labels_joined": 9, "months": [], "alarms": [],
    ...     "retrainings": [{}]})
    '2,500 requests sent, 2,500 predicted, 9 labels joined, 0 months, 1 retraining(s), 0 alarm(s)'
    """
    return (
        f"{summary['requests_sent']:,} requests sent, {summary['predicted']:,} predicted, "
        f"{summary['labels_joined']:,} labels joined, {len(summary['months'])} months, "
        f"{len(summary['retrainings'])} retraining(s), {len(summary['alarms'])} alarm(s)"
    )
