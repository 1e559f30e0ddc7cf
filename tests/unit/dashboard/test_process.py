"""What the dashboard reads of the declarations."""

import shutil
from pathlib import Path

from services.dashboard.process import page_declarations
from services.runtime.settings import ROOT, Settings


def test_the_page_knows_which_models_learn_online() -> None:
    declared = page_declarations(Settings(models=ROOT / "models"))
    assert {name: each.learns for name, each in declared.items()} == {
        "arrival_delay": False,
        "arrival_minutes": True,
    }


def test_an_invalid_declaration_hides_no_other_model(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "arrival_delay", tmp_path / "arrival_delay")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text("limit: {}\n")
    assert set(page_declarations(Settings(models=tmp_path))) == {"arrival_delay"}
