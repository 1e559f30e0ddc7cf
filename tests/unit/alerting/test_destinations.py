"""Destinations are read from the settings, and their URLs are never shown."""

import pytest
from pydantic import SecretStr

from services.alerting import destinations
from services.alerting.destinations import DestinationsError
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from tests.unit.drift import scenario

SECRET = "s3cr3t"


def settings(text: str = "", path=None) -> Settings:
    changes = {"alert_destinations": SecretStr(text), "alert_destinations_file": path}
    return Settings().model_copy(update=changes)


def declaration(*names: str) -> ModelDeclaration:
    routes = [{"to": name} for name in names]
    return ModelDeclaration.model_validate(scenario.document() | {"alerts": {"routes": routes}})


def test_setting_and_file_are_read_together(tmp_path):
    path = tmp_path / "destinations"
    path.write_text(f"# destinations\noncall=pagerduty://{SECRET}@key\n\nmail=mailto://a\n")
    found = destinations.load(settings(f"mail=json://x/{SECRET}?a=b  team=slack://{SECRET}", path))
    assert found == {
        "oncall": f"pagerduty://{SECRET}@key", "mail": f"json://x/{SECRET}?a=b", "team": f"slack://{SECRET}",
    }  # fmt: skip


@pytest.mark.parametrize("text", [f"slack://{SECRET}", f"Bad Name=slack://{SECRET}", f"oncall={SECRET}"])
def test_unreadable_entry_is_named_without_its_secret(text, tmp_path):
    with pytest.raises(DestinationsError, match=r"DRIFTLINE_ALERT_DESTINATIONS: entry [12]") as caught:
        destinations.load(settings(text))
    assert SECRET not in str(caught.value)
    with pytest.raises(DestinationsError, match="cannot be read: No such file"):
        destinations.load(settings(path=tmp_path / "nothing"))


def test_check_shows_the_destinations_without_secrets():
    urls = destinations.load(settings(f"oncall=json://user:{SECRET}@host/{SECRET}"))
    assert (
        destinations.summary(declaration("oncall", "oncall"), urls) == "alerts of m go to oncall (json://…)"
    )
    assert (
        destinations.summary(declaration("oncall"), {}) == "alerts of m are not sent: no destinations are set"
    )


def test_a_route_to_an_unknown_destination_is_named():
    with pytest.raises(DestinationsError, match="unknown destination oncal; "):
        destinations.summary(declaration("oncal"), {"oncall": "json://x"})


@pytest.mark.parametrize(
    ("alerts", "fault"),
    [
        ({"routes": [{"to": "a", "kinds": ["drfit"]}]}, "'drfit' is not a kind of alert; known are feature"),
        ({"routes": [{"to": "A b"}]}, "String should match pattern"),
        ({"repeat_after_hours": 0}, "greater than or equal to 0.1"),
        ({"routes": [{"to": "a", "url": "slack://x"}]}, "Extra inputs are not permitted"),
    ],
)
def test_declaration_is_strict(alerts, fault):
    with pytest.raises(ValueError, match=fault):
        ModelDeclaration.model_validate(scenario.document() | {"alerts": alerts})
