"""The options of the demo, checked before anything starts."""

import dataclasses
import datetime as dt
import re
from pathlib import Path

from services.demo.trial.world import TRIAL
from services.demo.world import DemoWorld
from services.demo.worlds import FLIGHTS, WORLDS
from services.runtime.suggestions import nearest

_SPEED = re.compile(r"^(?P<factor>\d+(\.\d+)?)x?$")
_SPEED_MAX = 10_000_000
"""Maximum speed; no machine plays faster, so a higher number is a typing error."""


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
    world: DemoWorld = FLIGHTS
    monthly: bool = False

    @property
    def whole_year(self) -> bool:
        """Whether the demo plays the world to its end."""
        return self.until_ms == self.world.calendar.end_ms


def parse(
    *,
    world: str = FLIGHTS.name,
    speed: str | None = None,
    as_fast_as_possible: bool = False,
    until: str | None = None,
    summary: Path | None = None,
    chronicle: Path | None = None,
    home: Path | None = None,
    lead_hours: float | None = None,
    monthly: bool = False,
    bad_candidates: bool = False,
) -> Options:
    """Return the checked options; raise `OptionError`."""
    if speed is not None and as_fast_as_possible:
        raise OptionError("--speed and --max exclude each other: give one of them")
    if lead_hours is not None and not 0.5 <= lead_hours <= 48:
        raise OptionError(f"--lead-hours {lead_hours:g}: must be between 0.5 and 48")
    if world not in WORLDS:
        raise OptionError(_unknown_world(world))
    if bad_candidates and (world != FLIGHTS.name or until is not None or chronicle is not None or monthly):
        raise OptionError(
            "--bad-candidates plays a few weeks of the flights, and no month of them is complete: leave out "
            "other worlds, --until, --chronicle and --monthly"
        )
    played = TRIAL if bad_candidates else WORLDS[world]
    if chronicle is not None and not played.has_chronicle:
        raise OptionError(f"--chronicle: nothing is known of the days of the {world}; leave it out")
    for option, path in (("--summary", summary), ("--chronicle", chronicle)):
        if path is not None:
            _check_writable(option, path)
    return Options(
        speed=None if speed is None else _parse_speed(speed),
        until_ms=played.calendar.end_ms if until is None else _parse_until(until, played),
        summary=summary,
        chronicle=chronicle,
        home=home,
        lead_hours=lead_hours,
        world=played,
        monthly=monthly or chronicle is not None,
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


def _unknown_world(name: str) -> str:
    near = nearest(name, WORLDS)
    hint = f"did you mean {near}?" if near else f"known are {', '.join(WORLDS)}"
    return f"{name}: there is no such world; {hint}"


def _parse_until(text: str, world: DemoWorld) -> int:
    calendar = world.calendar
    first = calendar.day_of(calendar.scoring_start_ms) + dt.timedelta(days=1)
    last = calendar.day_of(calendar.end_ms)
    try:
        day = dt.date.fromisoformat(text.strip())
    except ValueError:
        raise OptionError(f"--until {text}: write a date such as {first}") from None
    if not first <= day <= last:
        raise OptionError(
            f"--until {text}: must be from {first} (before, data is collected for the first model) to {last}"
        )
    return calendar.midnight_ms(day)


def _check_writable(option: str, path: Path) -> None:
    if path.is_dir():
        raise OptionError(f"{option} {path}: is a folder; give the name of a file in it")
    if not path.resolve().parent.is_dir():
        raise OptionError(f"{option} {path}: the folder {path.resolve().parent} does not exist")
