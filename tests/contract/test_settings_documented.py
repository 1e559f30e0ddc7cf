"""docs/reference/settings.md names every setting, and no other."""

import re

import pytest

from services.operations import settings_page
from services.operations.project_check import NO_SETTINGS
from services.runtime.settings import Settings

SECTION = settings_page.SECTION


def test_page_holds_the_table_made_from_the_settings() -> None:
    assert SECTION.is_current(), f"run: python {SECTION.command}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_means(name: str) -> None:
    assert Settings.model_fields[name].description


def test_page_names_no_variable_that_does_not_exist() -> None:
    page = SECTION.page.read_text(encoding="utf-8")
    known = {f"DRIFTLINE_{name.upper()}" for name in Settings.model_fields} | NO_SETTINGS.keys()
    assert set(re.findall(r"DRIFTLINE_[A-Z_]+", page)) <= known


def test_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="settings: begin"):
        SECTION.replaced_in("# Settings\n")


def test_stale_table_is_replaced_and_the_rest_kept() -> None:
    stale = f"above\n{SECTION.begin}\nold\n{SECTION.end}\nbelow\n"
    page = SECTION.replaced_in(stale)
    assert page.startswith("above\n")
    assert page.endswith("\nbelow\n")
    assert "\nold\n" not in page
    assert SECTION.replaced_in(page) == page
