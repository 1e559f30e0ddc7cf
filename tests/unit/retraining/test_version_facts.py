"""What a run folder says of its version is what MLflow and the model card show."""

from pathlib import Path

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from services.model_registry import model_card
from services.retraining import version_facts
from services.retraining.evidence import Evaluation
from services.retraining.gates import GateResult
from services.retraining.run_folder import CHOICES, EVALUATION
from services.retraining.training_choices import TrainingChoices
from tests.unit.retraining import runs

ESTIMATOR = Pipeline([("line", LogisticRegression(C=0.5))])


def test_the_card_of_a_candidate_has_what_the_run_says(tmp_path: Path) -> None:
    run = runs.extracted(tmp_path)
    run.write(CHOICES, TrainingChoices())
    run.write(
        EVALUATION,
        Evaluation(
            metrics={"log_loss": 0.4}, champion={"log_loss": 0.5}, held_out_rows=9, outputs_sha256="d"
        ),
    )
    found = version_facts.card(run, ESTIMATOR, [GateResult("champion", "passed", "better")], now_ms=7)
    sections = {each.title: list(each.rows) for each in found.sections}
    assert (found.version, found.made_ms, model_card.missing_sections(found)) == (0, 7, [])
    assert sections["Performance"] == [("log_loss", "0.4", "0.5")]
    assert sections["Gates"] == [("champion", "passed", "better")]
    assert ("rows", "1000") in sections["Training data"]
    assert {("C", "0.5"), ("estimator", "LogisticRegression")} <= set(sections["Parameters"])
    assert ("driftline.code.git_commit", "abc") in sections["Reproduction"]
