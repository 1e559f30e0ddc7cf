"""What the dashboard reads of the declarations."""

import asyncio
import shutil
from pathlib import Path

import pytest

from services.dashboard import process
from services.dashboard.page_feed import PageFeed
from services.dashboard.process import page_declarations
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import ROOT
from tests.waiting import LIVENESS_SECONDS


def test_the_page_knows_which_models_learn_online() -> None:
    declared = page_declarations(DeclarationFolder(ROOT / "models"))
    assert {name: each.learns for name, each in declared.items()} == {
        "arrival_delay": False,
        "arrival_minutes": True,
    }


def test_an_invalid_declaration_hides_no_other_model(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "arrival_delay", tmp_path / "arrival_delay")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text("limit: {}\n")
    assert set(page_declarations(DeclarationFolder(tmp_path))) == {"arrival_delay"}


def test_a_declaration_that_changes_is_read_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "REFRESH_SECONDS", 0.01)
    shutil.copytree(ROOT / "models" / "arrival_delay", tmp_path / "arrival_delay")
    path = tmp_path / "arrival_delay" / "model.yaml"
    folder = DeclarationFolder(tmp_path)
    feed = PageFeed("", page_declarations(folder))
    assert feed.declared["arrival_delay"].window_hours == 24

    async def change() -> None:
        async with process._following(folder, feed):
            path.write_text(path.read_text(encoding="utf-8").replace("window_hours: 24", "window_hours: 12"))
            async with asyncio.timeout(LIVENESS_SECONDS):
                while feed.declared["arrival_delay"].window_hours != 12:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(change())
