"""The table of settings."""

from services.operations import settings_page
from services.runtime.settings import Settings


def test_every_setting_has_one_row() -> None:
    rows = settings_page.settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [
        f"DRIFTLINE_{name.upper()}" for name in Settings.model_fields
    ]


def test_choices_are_listed() -> None:
    table = settings_page.settings_table()
    assert "(PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL)" in table


def test_secrets_and_empty_defaults_are_not_shown() -> None:
    rows = {row.split("`")[1]: row for row in settings_page.settings_table().splitlines()[2:]}
    assert "| `DRIFTLINE_SASL_PASSWORD` |  |" in rows["DRIFTLINE_SASL_PASSWORD"]
    assert "| `DRIFTLINE_HOME` | `.driftline` |" in rows["DRIFTLINE_HOME"]
