"""Destinations of alerts: names from model.yaml, apprise URLs (secrets) from the settings."""

import re
from collections.abc import Mapping
from pathlib import Path

from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class DestinationsError(ValueError):
    """The destinations cannot be read. The message says where the error is and never contains a URL."""


def load(settings: Settings) -> dict[str, str]:
    """Return the URL of each destination; the variable overrides the file."""
    found: dict[str, str] = {}
    if settings.alert_destinations_file is not None:
        found |= _of_file(settings.alert_destinations_file)
    text = settings.alert_destinations.get_secret_value()
    return found | _parsed(text.split(), "DRIFTLINE_ALERT_DESTINATIONS")


def masked(url: str) -> str:
    """Return a URL without its secrets: only the service."""
    return f"{url.partition('://')[0]}://…"


def summary(declaration: ModelDeclaration, destinations: Mapping[str, str]) -> str:
    """Describe where a model's alerts go, in one line; `DestinationsError` for an unknown destination."""
    names = list(dict.fromkeys(route.to for route in declaration.alerts.routes))
    if not names or not destinations:
        missing = "destinations are set" if names else "routes are declared"
        return f"alerts of {declaration.name} are not sent: no {missing}"
    if unknown := [name for name in names if name not in destinations]:
        known = ", ".join(sorted(destinations))
        raise DestinationsError(
            f"model {declaration.name}: alerts.routes: unknown destination {', '.join(unknown)}; "
            f"DRIFTLINE_ALERT_DESTINATIONS defines {known}"
        )
    return f"alerts of {declaration.name} go to " + ", ".join(
        f"{name} ({masked(destinations[name])})" for name in names
    )


def _of_file(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DestinationsError(
            f"DRIFTLINE_ALERT_DESTINATIONS_FILE: {path} cannot be read: {error.strerror}"
        ) from error
    return _parsed([line.strip() for line in lines if line.strip() and not line.startswith("#")], str(path))


def _parsed(entries: list[str], source: str) -> dict[str, str]:
    found, faults = {}, []
    for number, entry in enumerate(entries, 1):
        name, _, url = entry.partition("=")
        if not _NAME.fullmatch(name) or "://" not in url:
            faults.append(f"{source}: entry {number}: write name=URL, for example oncall=slack://...")
        found[name] = url
    if faults:
        raise DestinationsError("\n".join(faults))
    return found
