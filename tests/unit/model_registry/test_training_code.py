"""What a model's training.py must define."""

from pathlib import Path

import pytest

from services.model_registry.training_code import TrainingCodeError, function_of


def test_training_script_is_looked_for_in_the_models_folder(tmp_path: Path):
    with pytest.raises(TrainingCodeError, match="does not exist: create it with a function estimator"):
        function_of(tmp_path, "m", "estimator")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "training.py").write_text("")
    with pytest.raises(TrainingCodeError, match="has no function learner"):
        function_of(tmp_path, "m", "learner")
    (tmp_path / "m" / "training.py").write_text("def estimator(categorical, numeric):\n    return 'fine'\n")
    assert function_of(tmp_path, "m", "estimator")([], []) == "fine"
