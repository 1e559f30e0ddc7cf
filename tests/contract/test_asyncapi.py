"""docs/reference/asyncapi.yaml is what the code says, and a sound AsyncAPI document."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from services.operations import asyncapi
from services.runtime.declaration_file import load_all
from services.runtime.settings import ROOT
from streams import cloud_events, codec, records, topics
from tests.contract.deployment_files import documents
from tests.tools import tool
from tests.unit.streams.test_records import GOLDEN

PAGE = ROOT / "docs" / "reference" / "asyncapi.yaml"
FOLDER = Path(__file__).parent / "asyncapi"
INSTALL_SECONDS_MAX, PARSE_SECONDS_MAX = 600, 180


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as a reader gets it."""
    (found,) = documents(PAGE.read_text(encoding="utf-8"))
    return dict(found)


@pytest.fixture(scope="session")
def parser() -> tuple[str, Path]:
    """Node and a folder with AsyncAPI's parser, in the pinned versions; kept beside the Python packages."""
    node, npm = tool("node"), tool("npm")
    lock = (FOLDER / "package-lock.json").read_bytes()
    folder = Path(sys.prefix) / f"asyncapi-parser-{hashlib.sha256(lock).hexdigest()[:12]}"
    ready = folder / ".ready"
    if not ready.exists():
        folder.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(FOLDER / name, folder)
        run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder, seconds=INSTALL_SECONDS_MAX)
        ready.touch()
    return node, folder


def run(*command: str | Path, cwd: Path, seconds: int) -> None:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_page_is_made_from_the_code() -> None:
    """A change of a topic, a record or a model shows in the document."""
    made = asyncapi.as_yaml(asyncapi.document(load_all(ROOT / "models")))
    assert PAGE.read_text(encoding="utf-8") == made, (
        "run: driftline asyncapi --output docs/reference/asyncapi.yaml"
    )


def test_asyncapis_own_parser_finds_no_fault(parser: tuple[str, Path]) -> None:
    """It resolves every reference and checks each part against the specification."""
    node, folder = parser
    run(node, FOLDER / "validate.mjs", folder, PAGE, cwd=ROOT, seconds=PARSE_SECONDS_MAX)


def test_the_parser_does_find_a_fault(parser: tuple[str, Path], tmp_path: Path) -> None:
    """Else the test before would show nothing."""
    node, folder = parser
    broken = tmp_path / "broken.yaml"
    text = PAGE.read_text(encoding="utf-8")
    broken.write_text(text.replace("action: send", "action: shout", 1), encoding="utf-8")
    with pytest.raises(AssertionError, match="operations"):
        run(node, FOLDER / "validate.mjs", folder, broken, cwd=ROOT, seconds=PARSE_SECONDS_MAX)


def test_every_topic_is_a_channel_with_its_records(document: dict[str, Any]) -> None:
    """Ours under their templates, the models' under their names."""
    found = {channel["address"]: set(channel["messages"]) for channel in document["channels"].values()}
    for topic in topics.ALL:
        assert set(re.findall(r"[A-Z]\w+", topic.record)) <= found[topic.name]
    for declaration in load_all(ROOT / "models").values():
        assert {declaration.request.topic, declaration.label.topic} <= found.keys()


@pytest.mark.parametrize("record", [record for record, _ in GOLDEN], ids=lambda record: type(record).__name__)
def test_written_records_fit_their_schema_and_others_do_not(document: dict[str, Any], record: Any) -> None:
    """The schema is that of the bytes on the wire, byte strings and optional fields included."""
    schema = {"$ref": f"#/components/schemas/{type(record).__name__}", "components": document["components"]}
    check = jsonschema.Draft7Validator(schema)
    written = msgspec.json.decode(records.encode(record))
    check.validate(written)
    assert list(check.iter_errors({**written, next(iter(written)): ["no such thing"]}))


def test_failed_records_keep_their_headers_in_the_schema(document: dict[str, Any]) -> None:
    """Pairs of name and value: tuples are spelt otherwise in AsyncAPI's draft."""
    schema = {"$ref": "#/components/schemas/DeadLetter", "components": document["components"]}
    (letter,) = [record for record, _ in GOLDEN if isinstance(record, records.DeadLetter)]
    written = msgspec.json.decode(records.encode(letter))
    check = jsonschema.Draft7Validator(schema)
    check.validate(written | {"headers": [["a", "AA=="]]})
    for headers in ([["a"]], [["a", "AA==", "b"]], [[1, "AA=="]]):
        assert list(check.iter_errors(written | {"headers": headers}))


def test_headers_are_named(document: dict[str, Any]) -> None:
    """Those of CloudEvents for what carries them, ours where there is no value."""
    messages = document["components"]["messages"]
    envelope = cloud_events.Envelope("drift", "m", enabled=True)
    (sent,) = envelope.bulk(records.Outcome, [(0, 1)], 0)
    assert {name for name, _ in sent} <= messages["Outcome"]["headers"]["properties"].keys()
    assert messages["Heartbeat"]["headers"]["properties"].keys() == {codec.HEARTBEAT_HEADER}
    assert messages["ReplayMark"]["headers"]["properties"].keys() == {codec.REPLAY_MARK_HEADER}
