"""Checks a Markdown page: its commands exist, its links resolve, its code runs.

How code blocks are read, by the word after the fence:

- ``console``: lines that begin with ``$`` are commands, the rest is their output.
- ``bash``, ``sh``: every line is a command.
- ``python``: must compile; ``python run`` is executed as well, in a temporary folder.
- ``json``, ``yaml``: must parse.

Commands are not run: `make` targets, `driftline` commands with their flags, `docker compose` services and the
paths given to `kubectl` are looked up. A program that is not listed below is a fault: add it there.
"""

import itertools
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyclopts import CycloptsError
from ruamel.yaml.error import YAMLError

from services.operations import cli
from services.runtime.settings import ROOT, Settings
from tests.contract import deployment_files

RUN_SECONDS_MAX = 180
_FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,})(?P<info>[^`]*)$")
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|<(?:img|a)\b[^>]*\b(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_CODE_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")
_FREE_PROGRAMS = {
    "cd",
    "git",
    "pip",
    "feast",
    "open",
    "ls",
    "cat",
    "jq",
    "printf",
    "sha256sum",
    "cut",
    "dvc",
    "prefect",
}
"""Programs that are not Driftline's; their arguments are not checked."""


class Block(NamedTuple):
    """One fenced block of code."""

    line: int
    language: str
    options: tuple[str, ...]
    code: str


def pages() -> list[Path]:
    """Return every page that people read."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def faults_of(page: Path, *, folder: Path | None = None) -> list[str]:
    """Return every fault of a page, as ``line: what``. Links are relative to the folder."""
    text = page.read_text(encoding="utf-8")
    blocks, prose = split(text)
    faults = [
        f"{line}: {fault}"
        for line, target in links(prose)
        for fault in _link(folder or page.parent, page, target)
    ]
    faults += [f"{line}: {fault}" for line, path in code_paths(prose) for fault in _code_path(path)]
    faults += [f"{block.line}: {fault}" for block in blocks for fault in _block(block)]
    return faults


def split(text: str) -> tuple[list[Block], list[str]]:
    """Split a page into its blocks of code and its prose; the prose keeps its line numbers."""
    blocks: list[Block] = []
    prose: list[str] = []
    opened: tuple[int, str, str, int] | None = None
    code: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, code = (number, fence["fence"], fence["info"], len(fence["indent"])), []
        elif opened and fence and fence["fence"].startswith(opened[1]) and not fence["info"].strip():
            language, *options = opened[2].split() or [""]
            blocks.append(Block(opened[0], language, tuple(options), "\n".join(code) + "\n"))
            opened = None
        elif opened:
            code.append(line[opened[3] :])
        prose.append("" if opened or fence else line)
    return blocks, prose


def commands(block: Block) -> Iterator[str]:
    """Yield the commands of a block of shell, split at operators; ValueError if it cannot be read."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.lstrip()[2:] for line in lines if line.lstrip().startswith("$ ")]
    text = ""
    for line in lines:
        text += line
        if _is_quoted_further(text):
            text += "\n"
        else:
            yield from _parts(text)
            text = ""
    yield from _parts(text)


def _is_quoted_further(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return False


def _parts(text: str) -> Iterator[str]:
    """Split at the operators between commands."""
    words: list[str] = []
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for word in lexer:
        if set(word) <= set(";&|()"):
            yield shlex.join(words)
            words = []
        else:
            words.append(word)
    yield shlex.join(words)


def links(prose: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, target) of every link and picture."""
    for number, line in enumerate(prose, start=1):
        for match in _LINK.finditer(re.sub(r"`[^`]*`", "", line)):
            yield number, match[1] or match[2]


def code_paths(prose: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, path) of every path in ``code`` that begins with a folder of ours."""
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()}
    for number, line in enumerate(prose, start=1):
        for path in _CODE_PATH.findall(line):
            if path.split("/")[0] in ours:
                yield number, path


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    _, prose = split(text)
    titles = [match[1] for line in prose if (match := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _link(folder: Path, page: Path, target: str) -> Iterator[str]:
    if re.match(r"^[a-z]+:", target):
        return  # an external page: not tested
    name, _, anchor = target.partition("#")
    path = (folder / name).resolve() if name else page
    if not path.exists():
        yield f"link {target}: no such file"
    elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
        yield f"link {target}: no such heading"


def _code_path(path: str) -> Iterator[str]:
    if not (ROOT / path).exists():
        yield f"`{path}`: no such file"


def _block(block: Block) -> Iterator[str]:
    check = _CHECKS.get(block.language)
    if check is None:
        yield f"code block: the language {block.language!r} is not known; use text for none"
    else:
        yield from check(block)


def _shell(block: Block) -> Iterator[str]:
    try:
        found = [command for command in commands(block) if command]
    except ValueError as error:
        yield f"cannot be read as shell: {error}"
        return
    if not found:
        yield "a block of shell without a command (console: begin the line with '$ ')"
    for command in found:
        for fault in _command(command):
            yield f"{command}: {fault}"


def _command(command: str) -> Iterator[str]:
    words = shlex.split(command)
    while words and re.match(r"^[A-Za-z_]\w*=", words[0]):
        yield from _variable(words.pop(0).partition("=")[0])
    if not words:
        return
    program, arguments = Path(words[0]).name, words[1:]
    if "/" in words[0] and not words[0].startswith(".venv/") and not (ROOT / words[0]).exists():
        yield "no such file"
    elif program in _PROGRAMS:
        yield from _PROGRAMS[program](arguments)
    elif program not in _FREE_PROGRAMS and not (ROOT / words[0]).exists():
        yield f"the program {program!r} is not known to tests/contract/pages.py"


def _variable(name: str) -> Iterator[str]:
    known = {f"DRIFTLINE_{field.upper()}" for field in Settings.model_fields}
    if name.startswith("DRIFTLINE_") and name not in known:
        yield f"{name} is no setting"


def _export(arguments: list[str]) -> Iterator[str]:
    for argument in arguments:
        yield from _variable(argument.partition("=")[0])


def _make(arguments: list[str]) -> Iterator[str]:
    values = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    targets = [argument for argument in arguments if "=" not in argument and not argument.startswith("-")]
    for name in values:
        if f"$({name})" not in (ROOT / "Makefile").read_text(encoding="utf-8"):
            yield f"the Makefile does not read {name}"
    for target in targets:
        if target not in make_targets():
            yield f"no such target: {target}"
        elif target == "demo" and "ARGS" in values:
            yield from _driftline(["demo", *shlex.split(values["ARGS"])])


def _driftline(arguments: list[str]) -> Iterator[str]:
    commands = {name for name, _, _ in cli.COMMANDS}
    if not arguments or arguments[0] in {"--help", "-h", "--version"}:
        return
    if arguments[0] not in commands:
        yield cli.unknown(arguments[0])
        return
    try:
        cli.application().parse_args(arguments, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        yield str(error).strip() or type(error).__name__


def _python(arguments: list[str]) -> Iterator[str]:
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        module = ROOT.joinpath(*arguments[1].split("."))
        if (
            arguments[1] != "pytest"
            and not module.with_suffix(".py").exists()
            and not (module / "__main__.py").exists()
        ):
            yield f"no such module: {arguments[1]}"


def _docker(arguments: list[str]) -> Iterator[str]:
    services = deployment_files.compose()["services"]
    match [word for word in arguments if not word.startswith("-")]:
        case ["compose", "run", service, *rest] if service in services:
            yield from _driftline(rest) if "build" in services[service] and rest else ()
        case ["compose", "up" | "down" | "logs" | "run" | "restart" | "stop" | "ps", *names]:
            yield from (f"no such service: {name}" for name in names if name not in services)
        case ["compose", "build" | "config" | "pull", *_] | ["build", *_]:
            pass
        case _:
            yield "not known to tests/contract/pages.py"


def _curl(arguments: list[str]) -> Iterator[str]:
    """Check the ports of Driftline's processes, and the JSON sent to them."""
    ports = {str(field.default) for name, field in Settings.model_fields.items() if name.endswith("_port")}
    for url in arguments:
        here = re.match(r"^(?:http://)?(?:localhost|127\.0\.0\.1):(\d+)", url)
        if here and here[1] not in ports:
            yield f"no process listens on port {here[1]}"
    for flag, body in itertools.pairwise(arguments):
        if flag in {"-d", "--data", "--json"} and not body.startswith("@"):
            yield from _json(Block(0, "json", (), body))


def _kubectl(arguments: list[str]) -> Iterator[str]:
    for flag, path in itertools.pairwise(arguments):
        if flag in {"-k", "-f"} and not (ROOT / path).exists():
            yield f"no such path: {path}"


def _python_code(block: Block) -> Iterator[str]:
    try:
        compile(block.code, f"line {block.line}", "exec")
    except SyntaxError as error:
        yield f"python: {error}"
        return
    if "run" in block.options:
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(
                [sys.executable, "-c", block.code],
                cwd=folder,
                env={"PYTHONPATH": str(ROOT), "PATH": ""},
                capture_output=True,
                text=True,
                timeout=RUN_SECONDS_MAX,
                check=False,
            )
        if result.returncode:
            yield f"python: {result.stderr.strip().splitlines()[-1]}"


def _json(block: Block) -> Iterator[str]:
    try:
        json.loads(block.code)
    except ValueError as error:
        yield f"json: {error}"


def _yaml(block: Block) -> Iterator[str]:
    try:
        deployment_files.documents(block.code)
    except YAMLError as error:
        yield f"yaml: {str(error).splitlines()[0]}"


def _anything(_: Block) -> Iterator[str]:
    yield from ()


_PROGRAMS: dict[str, Callable[[list[str]], Iterator[str]]] = {
    "curl": _curl,
    "make": _make,
    "driftline": _driftline,
    "docker": _docker,
    "kubectl": _kubectl,
    "export": _export,
    "python": _python,
}
_CHECKS: dict[str, Callable[[Block], Iterator[str]]] = {
    "console": _shell,
    "bash": _shell,
    "sh": _shell,
    "python": _python_code,
    "json": _json,
    "yaml": _yaml,
    "text": _anything,
    "mermaid": _anything,
}
