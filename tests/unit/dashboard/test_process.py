"""What the dashboard reads of the declarations."""

from pathlib import Path

from services.dashboard.process import page_declarations
from services.runtime.settings import ROOT, Settings


def test_the_page_knows_which_models_learn_online() -> None:
    declared = page_declarations(Settings(models=ROOT / "models"))
    assert {name: each.learns for name, each in declared.items()} == {
        "arrival_delay": False,
        "arrival_minutes": True,
    }


def test_unreadable_declarations_leave_the_page_without_them(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text("limit: {}\n")
    assert page_declarations(Settings(models=tmp_path)) == {}
