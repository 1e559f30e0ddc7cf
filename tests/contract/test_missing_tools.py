"""A machine without some tool skips the tests that need it, and says so in one line; CI skips nothing."""

import shutil
from pathlib import Path

import pytest

from tests import tools


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)


@pytest.mark.usefixtures("nothing_installed")
def test_a_test_without_its_tool_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="the tool promtool is missing"):
        tools.tool("promtool")


@pytest.mark.usefixtures("nothing_installed")
def test_a_test_without_its_tool_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="the tool promtool is missing"):
        tools.tool("promtool")


def test_the_summary_names_each_tool_once_with_the_packages_to_install() -> None:
    reasons = [f"Skipped: the tool {name} is missing" for name in ("promtool", "chromium", "promtool")]
    assert tools.summary([*reasons, "Skipped: no network"]) == (
        "skipped for lack of chromium, promtool: 3 tests; "
        "install them with: apt-get install chromium prometheus"
    )


def test_the_summary_is_empty_when_no_tool_was_missing() -> None:
    assert tools.summary(["Skipped: no network"]) == ""


def test_every_package_is_installed_by_ci() -> None:
    script = (Path(__file__).parents[2] / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"{name}:{package}" in script for name, package in tools.PACKAGES.items())
