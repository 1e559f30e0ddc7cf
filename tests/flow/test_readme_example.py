"""The README's own model, taken from the page: declared, registered, asked."""

import datetime as dt
import json
import os
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import skops.io
from kafka import KafkaConsumer, KafkaProducer
from ruamel.yaml import YAML
from sklearn.linear_model import LinearRegression

from bench.scoring_job.installation import JOB
from services.runtime.settings import ROOT, Settings
from tests.contract import pages
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS


def example() -> tuple[str, list[list[str]]]:
    """Return the model.yaml of the README and the commands behind it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks, _ = pages.split(text[text.index("A model of your own") :])
    declared, commands = blocks[0], blocks[1]
    assert (declared.language, commands.language) == ("yaml", "bash")
    return declared.code, [shlex.split(line, comments=True) for line in commands.code.splitlines()]


def test_model_of_the_readme_answers_on_kafka_and_over_http(settings: Settings, tmp_path: Path) -> None:
    declared, commands = example()
    assert len(declared.splitlines()) + len(commands) <= 10
    made = settings.model_copy(update={"models": tmp_path / "models", "feature_repo": JOB / "feature_repo"})
    folder = made.models / YAML(typ="safe").load(declared)["name"]
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(declared, encoding="utf-8")
    made.home.mkdir()
    rides = pd.DataFrame({"km": [1.0, 2.0, 5.0, 9.0], "hour": [8, 12, 18, 23]})
    rides.to_csv(tmp_path / "rides.csv", index=False)
    tips = LinearRegression().fit(rides, rides["km"] / 2)
    skops.io.dump(tips, tmp_path / "tips.skops")

    *steps, (_, process) = commands
    for command in steps:
        run(made, tmp_path, command)
    with Process(process, made, log=tmp_path / "scoring.log") as scoring:
        scoring.wait_ready()
        ride = {"ride": "r1", "at": dt.datetime.now(dt.UTC).isoformat(), "km": 4.0, "hour": 9}
        prediction = ask_kafka(made, ride)
        answer = ask_http(scoring, ride)

    assert prediction["prediction_id"] == "r1"
    assert (prediction["version"], prediction["arm"]) == (1, "champion")
    assert abs(prediction["score"] - 2.0) < 1e-9
    assert abs(answer["predictions"][0]["score"] - 2.0) < 1e-9


def run(settings: Settings, folder: Path, command: list[str]) -> None:
    program, *arguments = command
    assert program == "driftline"
    done = subprocess.run(
        [sys.executable, "-m", "services.operations.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings.environment()},
        capture_output=True,
        text=True,
        timeout=LIVENESS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def ask_kafka(settings: Settings, ride: dict[str, object]) -> dict[str, Any]:
    """Send an event, return its prediction."""
    producer = KafkaProducer(bootstrap_servers=settings.broker)
    producer.send("rides", json.dumps(ride).encode(), key=b"r1")
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(
        "driftline.predictions.tips",
        bootstrap_servers=settings.broker,
        auto_offset_reset="earliest",
        consumer_timeout_ms=LIVENESS_SECONDS * 1000,
    )
    answer: dict[str, Any] = json.loads(next(consumer).value)
    consumer.close()
    return answer


def ask_http(scoring: Process, ride: dict[str, object]) -> dict[str, list[dict[str, float]]]:
    body = json.dumps({"model": "tips", "rows": [ride]}).encode()
    with urllib.request.urlopen(f"{scoring.url}/predict", body, timeout=LIVENESS_SECONDS) as page:
        answer: dict[str, list[dict[str, float]]] = json.load(page)
    return answer
