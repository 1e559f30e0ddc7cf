"""What a model's training.py must define."""

from pathlib import Path

import pytest

from services.model_registry.training_code import TrainingCodeError, faults_of, function_of


def test_training_script_is_looked_for_in_the_models_folder(tmp_path: Path):
    with pytest.raises(TrainingCodeError, match="does not exist: create it with a function estimator"):
        function_of(tmp_path, "m", "estimator")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "training.py").write_text("")
    with pytest.raises(TrainingCodeError, match="has no function learner"):
        function_of(tmp_path, "m", "learner")
    (tmp_path / "m" / "training.py").write_text("def estimator(categorical, numeric):\n    return 'fine'\n")
    assert function_of(tmp_path, "m", "estimator")([], []) == "fine"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def estimator(categorical, numeric): ...", None),
        ("def estimator(*names): ...", None),
        ("def estimator(a, b, c=1): ...", None),
        ("from operator import add as estimator", None),
        ("estimator = lambda a, b: None", None),
        ("def estimator(): ...", ":1:1: estimator must take two arguments"),
        ("import os\ndef estimator(a, b, c): ...", ":2:1: estimator must take two arguments"),
        ("def estimator(a, b, *, c): ...", ":1:1: estimator must take two arguments"),
        ("def learner(a, b): ...", ":1:1: there is no function estimator"),
        ("def estimater(a, b): ...", ":1:1: there is no estimator(categorical, numeric), but estimater (did"),
        ("from shared import estimator", ":1:1: no module named 'shared': install it"),
        ("from . import estimator", ":1:1: a file beside this one cannot be imported"),
        ("import training\ndef estimator(a, b): ...", ":1:1: a file beside this one cannot be imported"),
        ("from operator import ad as estimator", ":1:22: operator does not have 'ad' (did you mean add?)"),
        ("def estimator(a, b):\n import shared", ":2:2: no module named 'shared'"),
        ("try:\n import shared\nexcept ImportError: ...\ndef estimator(a, b): ...", None),
        ("def estimator(a, b:\n", ":1:"),
    ],
)
def test_a_fault_of_training_code_is_found_without_running_it(
    tmp_path: Path, text: str, fault: str | None
) -> None:
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / "training.py"
    path.write_text(f"{text}\nraise SystemExit\n")
    found = faults_of(tmp_path, "m", ["estimator"])
    assert found == [] if fault is None else found[0].startswith(f"{path}{fault}")


def test_a_search_space_takes_a_trial(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / "training.py"
    for text, fault in (
        ("def search_space(trial): ...", None),
        (
            "def search_space(a, b): ...",
            f"{path}:1:1: search_space must take one argument, a trial of Optuna",
        ),
        ("", f"{path}:1:1: there is no function search_space(trial): define it"),
    ):
        path.write_text(text)
        found = faults_of(tmp_path, "m", ["search_space"])
        assert found == [] if fault is None else found[0].startswith(fault)


def test_missing_training_code_is_a_fault(tmp_path: Path) -> None:
    (found,) = faults_of(tmp_path, "m", ["estimator"])
    assert "does not exist: create it" in found
