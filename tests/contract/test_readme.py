"""The commands, links and code of README and docs/ are valid."""

import re
from pathlib import Path

import pytest

from services.runtime.settings import ROOT
from tests.contract import pages

FENCE = "```"


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_no_fault(page: Path) -> None:
    faults = [f"{page.relative_to(ROOT)}:{fault}" for fault in pages.faults_of(page)]
    assert not faults, "\n".join(faults)


def test_readme_has_a_quick_start_with_make_demo() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.strip(), "README.md is empty"
    sections = re.split(r"^#{1,3} +", text, flags=re.MULTILINE)
    quick_starts = [section for section in sections if section.lower().startswith("quick start")]
    assert quick_starts, "README.md has no heading 'Quick start'"
    blocks, _ = pages.split(quick_starts[0])
    commands = [
        command
        for block in blocks
        if block.language in {"console", "bash", "sh"}
        for command in pages.commands(block)
    ]
    assert any(command.startswith("make demo") for command in commands), (
        "the quick start does not say `make demo`"
    )


def test_every_target_of_the_makefile_is_explained_by_make_help() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    assert explained == pages.make_targets()


# --- the checker itself: a page with one broken command, link or block has one fault, which names it


def faults(tmp_path: Path, text: str) -> list[str]:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return pages.faults_of(page)


def code(language: str, *lines: str) -> str:
    return "\n".join([f"{FENCE}{language}", *lines, FENCE, ""])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (code("console", "$ make demonstration"), "no such target: demonstration"),
        (code("console", "$ make bench WHICH=scoring"), "does not read WHICH"),
        (code("bash", "driftline chek"), "chek"),
        (code("bash", "driftline check --conect"), "--conect"),
        (code("bash", "make setup && driftline check --conect"), "--conect"),
        (code("bash", "DRIFTLINE_BROKERS=x driftline check"), "DRIFTLINE_BROKERS is no setting"),
        (code("bash", "export DRIFTLINE_BROKERS=x"), "DRIFTLINE_BROKERS is no setting"),
        (code("bash", "docker compose up scorer"), "no such service: scorer"),
        (code("bash", "kubectl apply -k k8s/production"), "no such path: k8s/production"),
        (code("bash", "bench/run.sh"), "no such file"),
        (code("bash", "frobnicate"), "frobnicate"),
        (code("bash", "make 'demo"), "cannot be read as shell"),
        (code("bash", "curl -d '{", "}' localhost:8001 && make nothing"), "no such target"),
        (code("bash", "curl localhost:8099/predict"), "port 8099"),
        (code("bash", "curl -d '{\"a\": }' localhost:8001/predict"), "json:"),
        (code("bash", "# nothing"), "without a command"),
        (code("console", "make demo"), "without a command"),
        (code("python", "def ("), "python:"),
        (code("python run", "raise SystemExit('no')"), "no"),
        (code("json", "{"), "json:"),
        (code("yaml", "a: [1"), "yaml:"),
        (code("pyhton", "1"), "'pyhton' is not known"),
        (code("", "what am I"), "use text"),
        ("[here](missing.md)\n", "no such file"),
        ("![picture](missing.png)\n", "no such file"),
        ("# One\n\n[here](#two)\n", "no such heading"),
        ("See `services/nothing.py`.\n", "no such file"),
    ],
)
def test_broken_part_of_a_page_is_found(tmp_path: Path, text: str, message: str) -> None:
    (fault,) = faults(tmp_path, text)
    assert message in fault


@pytest.mark.parametrize(
    "text",
    [
        code("console", "$ make test ARGS='-k name'", "12 passed"),
        code("console", "$ make check \\", "    bench ONLY=scoring"),
        code("bash", "cd driftline && make demo  # the whole year"),
        code("bash", ".venv/bin/driftline check --connect", "driftline --help"),
        code("bash", "export DRIFTLINE_BROKER=kafka:9092", "docker compose run --rm scoring check --connect"),
        code("bash", "curl -d '{", '  "a": 1', "}' localhost:8001/predict | jq .score", "make demo"),
        code("python run", "import services.runtime.settings"),
        code("text", "anything { at [ all"),
        "# Two Words: here\n\n[there](#two-words-here), [away](https://example.org), `[no](link.md)`\n",
    ],
)
def test_valid_page_has_no_fault(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, text) == []


def test_fault_names_its_line(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "# Title\n\n" + code("bash", "make nothing"))
    assert fault.startswith("3: make nothing:")
