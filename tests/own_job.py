"""The job of the benchmarks under a name of a test's own: declared, with its topics and its features."""

from pathlib import Path

import pytest

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL, REQUESTS
from services.runtime import declaration_file, topic_creation
from services.runtime.declaration import FILE
from services.runtime.settings import Settings


def declare(models: Path, name: str, extra: str = "") -> None:
    """Declare the job's model under another name, with topics of its own and these further lines."""
    text = (JOB / "models" / MODEL / FILE).read_text(encoding="utf-8")
    own = {f"name: {MODEL}": f"name: {name}", REQUESTS: f"{name}.requests", "bench.labels": f"{name}.labels"}
    for found, value in own.items():
        text = text.replace(found, value)
    (models / name).mkdir(parents=True)
    (models / name / FILE).write_text(text + extra, encoding="utf-8")


def install(
    settings: Settings, patch: pytest.MonkeyPatch, models: Path = JOB / "models", **changes: int
) -> Settings:
    """Create the topics of these models and write the features; return the settings of their processes."""
    patch.setenv("DRIFTLINE_HOME", str(settings.home))
    settings.home.mkdir()
    found = settings.model_copy(update={"models": models, "feature_repo": JOB / "feature_repo"} | changes)
    topic_creation.ensure_topics(found, declaration_file.load_all(found.models))
    installation.write_features(found)
    return found
