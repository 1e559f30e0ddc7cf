"""The options of the demo, checked before anything starts."""

import dataclasses
import datetime as dt
import re
from pathlib import Path

from services.demo import months

_SPEED = re.compile(r"^(?P<factor>\d+(\.\d+)?)x?$")
_SPEED_MAX = 10_000_000
"""Maximum speed; no machine plays faster, so a higher number is a typing error."""

_FIRST_UNTIL = dt.date(months.YEAR, 2, 2)
_LAST_UNTIL = dt.date(months.YEAR + 1, 1, 1)


class OptionError(ValueError):
    """An option cannot be used. The message names it and says what would be right."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The checked options of one demo."""

    speed: float | None
    """Event seconds per second; None: as fast as the processes can follow."""
    until_ms: int
    """Only requests before this event time are sent."""
    summary: Path | None = None
    chronicle: Path | None = None
    home: Path | None = None
    lead_hours: float | None = None

    @property
    def whole_year(self) -> bool:
        """Whether the demo plays to the end of the year."""
        return self.until_ms == months.YEAR_END_MS


def parse(
    *,
    speed: str | None = None,
    as_fast_as_possible: bool = False,
    until: str | None = None,
    summary: Path | None = None,
    chronicle: Path | None = None,
    home: Path | None = None,
    lead_hours: float | None = None,
) -> Options:
    """Return the checked options; raise `OptionError`."""
    if speed is not None and as_fast_as_possible:
        raise OptionError("--speed and --max exclude each other: give one of them")
    if lead_hours is not None and not 0.5 <= lead_hours <= 48:
        raise OptionError(f"--lead-hours {lead_hours:g}: must be between 0.5 and 48")
    for option, path in (("--summary", summary), ("--chronicle", chronicle)):
        if path is not None:
            _check_writable(option, path)
    return Options(
        speed=None if speed is None else _parse_speed(speed),
        until_ms=months.YEAR_END_MS if until is None else _parse_until(until),
        summary=summary,
        chronicle=chronicle,
        home=home,
        lead_hours=lead_hours,
    )


def _parse_speed(text: str) -> float:
    match = _SPEED.match(text.strip().lower())
    factor = float(match["factor"]) if match else 0.0
    if not 1 <= factor <= _SPEED_MAX:
        raise OptionError(
            f"--speed {text}: write event seconds per second, 1x to {_SPEED_MAX}x; "
            "86400x is one day per second"
        )
    return factor


def _parse_until(text: str) -> int:
    try:
        day = dt.date.fromisoformat(text.strip())
    except ValueError:
        raise OptionError(f"--until {text}: write a date such as 2013-03-01") from None
    if not _FIRST_UNTIL <= day <= _LAST_UNTIL:
        raise OptionError(
            f"--until {text}: must be from {_FIRST_UNTIL} (January only collects data for the first model) "
            f"to {_LAST_UNTIL}"
        )
    return months.local_midnight_ms(day)


def _check_writable(option: str, path: Path) -> None:
    if path.is_dir():
        raise OptionError(f"{option} {path}: is a folder; give the name of a file in it")
    if not path.resolve().parent.is_dir():
        raise OptionError(f"{option} {path}: the folder {path.resolve().parent} does not exist")
