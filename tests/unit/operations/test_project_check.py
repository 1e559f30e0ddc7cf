"""`driftline check` finds the mistakes of a first project, with their places, before anything starts."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from services.feature_store import repository
from services.operations import check as command
from services.operations import project_check
from services.runtime.settings import Settings
from tests import mistakes, project
from tests.mistakes import Mistake


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose repository is applied: where its files do not change, Feast need not compile them."""
    folder = tmp_path_factory.mktemp("sound")
    project.write(folder)
    repository.apply(Settings(feature_repo=folder / "feature_repo", home=folder / ".driftline"))
    return folder


@pytest.fixture(autouse=True)
def folder(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of somebody's own, in which the command is called: no setting names it."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DRIFTLINE_")]:
        monkeypatch.delenv(name)


def faults() -> list[str]:
    return project_check.examined(os.environ, connect=False).faults


def change(file: str, old: str, new: str) -> str:
    """Change a file of the project; return its new text."""
    text = Path(file).read_text(encoding="utf-8")
    assert old in text
    changed = text.replace(old, new, 1)
    Path(file).write_text(changed, encoding="utf-8")
    return changed


def place(text: str, at: str) -> str:
    """Return line and column of a part of a text."""
    before = text[: text.index(at)]
    return f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


def test_in_a_folder_of_ones_own_its_models_are_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    command.check()
    assert "ok  model fraud: payments -> driftline.predictions.fraud" in capsys.readouterr().out


@pytest.mark.parametrize("mistake", mistakes.ALL, ids=lambda each: f"{Path(each.file).name} {each.name}")
def test_a_mistake_is_reported_with_its_place_and_what_to_do(mistake: Mistake) -> None:
    text = change(mistake.file, mistake.old, mistake.new)
    position = place(text, mistake.at) if mistake.at else "1:1"
    found = [fault for fault in faults() if fault.startswith(f"{mistake.file}:{position}: ")]
    assert any(mistake.says in fault for fault in found)


def test_mistakes_in_all_files_are_reported_at_once() -> None:
    change(project.MODEL_FILE, "psi_threshold", "psi_treshold")
    change(project.MODEL_FILE, "window_hours: 24", "window_hours: day")
    change(project.MODEL_FILE, "value: fraud", "value: fruad")
    change(project.MODEL_FILE, "[amount, device, country]", "[amuont, device, country]")
    change(project.MODEL_FILE, "{spent_1h: [hour]}", "{spent_2h: [hour]}")
    change(project.TRAINING_FILE, "def estimator(", "def estimater(")
    change(project.DEFINITIONS_FILE, '"amount", "sum"', '"amount", "median"')
    found = "\n".join(faults())
    for words in ("psi_treshold", "valid number", "fruad", "amuont", "estimater", "'median'"):
        assert words in found


def test_what_follows_from_another_mistake_is_not_reported() -> None:
    change(project.MODEL_FILE, "monitoring:", "monitering:")
    (fault,) = faults()
    assert "did you mean monitoring?" in fault


def test_destinations_sections_of_the_card_and_a_file_of_settings_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRIFTLINE_ALERT_DESTINATIONS", "oncal=json://localhost team=json://localhost")
    change(project.MODEL_FILE, "  floor: 0.3\n", "  floor: 0.3\n  model_card: true\n")
    text = Path(project.MODEL_FILE).read_text(encoding="utf-8")
    Path(".env").write_text("# ours\nDRIFTLINE_BROKERS=kafka:9092\n", encoding="utf-8")
    found = faults()
    assert found[0] == ".env:2:1: DRIFTLINE_BROKERS: unknown setting (did you mean DRIFTLINE_BROKER?)"
    assert any("'Limitations': write governance.limitations" in fault for fault in found)
    route = f"{project.MODEL_FILE}:{place(text, 'to: oncall')}: "
    assert any(fault.startswith(route) and "did you mean oncal?" in fault for fault in found)


def test_an_invalid_setting_hides_no_other_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_PARTITIONS", "none")
    change(project.MODEL_FILE, "segments: [device]", "segments: [devise]")
    assert len(faults()) == 3  # the segment is a gate's and an alert's, too


def test_programs_get_file_line_and_column_of_each_fault(capsys: pytest.CaptureFixture[str]) -> None:
    change(project.MODEL_FILE, "risk: limited", "risk: low")
    with pytest.raises(SystemExit) as ended:
        command.check(json=True)
    assert ended.value.code == 1
    document = msgspec.json.decode(capsys.readouterr().out)
    assert not document["valid"]
    (fault,) = document["faults"]
    assert (fault["file"], fault["column"]) == (project.MODEL_FILE, 3)
    assert fault["text"].startswith("governance.risk: ")
