"""docs/reference/asyncapi.yaml is what the code says, and a sound AsyncAPI document."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.operations import asyncapi
from services.runtime.declaration_file import load_all
from services.runtime.settings import ROOT
from tests.tools import tool

PAGE = ROOT / "docs" / "reference" / "asyncapi.yaml"
FOLDER = Path(__file__).parent / "asyncapi"
INSTALL_SECONDS_MAX, PARSE_SECONDS_MAX = 600, 180


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
