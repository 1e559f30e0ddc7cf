"""Where in the files of a Feast repository an error is: one sentence with file, line and column each."""

import ast
import contextlib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.feature_store.plan import PlanError
from services.runtime.suggestions import suggestion

STORE_FILE = "feature_store.yaml"
_NAMED = re.compile(r"(view|service|source)s? '?(\w+)'?")
_QUOTED = re.compile(r"'([^']*)'")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_VALIDATION = re.compile(r"^([\w.]+)\n  (.+?)(?: \[type=.*)?$", re.MULTILINE)
"""A setting and what is wrong with it, in a text of pydantic."""


@contextlib.contextmanager
def located(folder: Path) -> Iterator[None]:
    """Turn every error of the block into a `PlanError` that has a line with its place for each fault."""
    try:
        yield
    except PlanError as error:
        lines = [_placed(folder, line) for line in str(error).splitlines()]
        raise PlanError("\n".join(lines)) from error
    except Exception as error:
        raise PlanError("\n".join(_sentences(folder, error))) from error


def store_faults(folder: Path) -> list[str]:
    """Return what in feature_store.yaml cannot be run, with its place."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = folder / STORE_FILE
    if not path.is_file():
        advice = (
            f"a Feast repository is a folder with a {STORE_FILE}; create it, or set DRIFTLINE_FEATURE_REPO"
        )
        return [f"{path}: no such file; {advice}"]
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        return [f"{path}:{place}: {getattr(error, 'problem', error)}"]
    return [f"{path}:{fault}" for fault in _content_faults(document)]


def _content_faults(document: Any) -> Iterator[str]:
    if not isinstance(document, dict) or "project" not in document:
        yield "1:1: there is no project: write project: and a name"
        return
    online = document.get("online_store")
    kind = online.get("type") if isinstance(online, dict) else online
    if kind != "redis":
        place = _mark(online, "type") or _mark(document, "online_store") or "1:1"
        yield f"{place}: online_store has the type {kind!r}; Driftline writes to redis alone"
    version = document.get("entity_key_serialization_version", 3)
    if version != 3:
        place = _mark(document, "entity_key_serialization_version") or "1:1"
        yield f"{place}: Driftline writes entity_key_serialization_version 3, not {version}"


def _mark(section: Any, key: str) -> str | None:
    """Return line and column of a key; None if it is not there."""
    if not hasattr(section, "lc") or key not in section:
        return None
    line, column = section.lc.key(key)
    return f"{line + 1}:{column + 1}"


def _sentences(folder: Path, error: Exception) -> list[str]:
    """Return a line for each fault of an exception that Feast or a file of the repository has raised."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(folder):
        return [f"{error.filename}:{error.lineno or 1}:{error.offset or 1}: {error.msg}"]
    text = " ".join(re.sub(r" \(/[^)]*\)$", "", str(error)).split())
    if (named := _NO_NAME.match(text)) is not None:
        text += _suggested(named[1], named[2])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_in(folder, frame.filename)]
    if frames:
        last = frames[-1]
        return [f"{last.filename}:{last.lineno}:{(last.colno or 0) + 1}: {kind}: {text}"]
    if found := _VALIDATION.findall(str(error)):
        return [f"{folder / STORE_FILE}:{_setting(folder, name)}: {name}: {what}" for name, what in found]
    return [_placed(folder, f"{kind}: {text}")]


def _suggested(name: str, module: str) -> str:
    import importlib

    return suggestion(name, dir(importlib.import_module(module))).partition(";")[0]


def _is_in(folder: Path, file: str) -> bool:
    return Path(file).suffix == ".py" and Path(file).resolve().is_relative_to(folder.resolve())


def _setting(folder: Path, name: str) -> str:
    """Return line and column of a setting in feature_store.yaml; of its beginning if it is not there."""
    lines = (folder / STORE_FILE).read_text(encoding="utf-8").splitlines()
    wanted = re.compile(rf"\s*{re.escape(name.rpartition('.')[2])}\s*:")
    number = next((number for number, line in enumerate(lines) if wanted.match(line)), 0)
    return f"{number + 1}:1"


def _placed(folder: Path, text: str) -> str:
    """Put the place of a definition that a text names before it, or else the folder."""
    statements = _statements(folder)
    named = _NAMED.findall(text)[::-1]
    defined = [
        (path, each) for kind, name in named for path, each in statements if _defines(each, kind, name)
    ]
    names = [name for name in _QUOTED.findall(text) if name not in {name for _, name in named}]
    parts: list[tuple[Path, ast.stmt | ast.Constant]] = [
        (path, part) for path, each in defined if (part := _named_part(each, names)) is not None
    ]
    for path, node in [*parts, *defined]:
        return f"{path}:{node.lineno}:{node.col_offset + 1}: {text}"
    for name in _QUOTED.findall(text):
        for path, statement in statements:
            if any(isinstance(each, ast.Constant) and each.value == name for each in ast.walk(statement)):
                return f"{path}:{statement.lineno}:{statement.col_offset + 1}: {text}"
        if (place := _value_place(folder / STORE_FILE, name)) is not None:
            return f"{folder / STORE_FILE}:{place}: {text}"
    return text if text.startswith(str(folder)) else f"{folder}: {text}"


def _statements(folder: Path) -> list[tuple[Path, ast.stmt]]:
    """Return the statements of all files that can be parsed."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        with contextlib.suppress(SyntaxError, ValueError, OSError):
            found += [(path, each) for each in ast.parse(path.read_text(encoding="utf-8")).body]
    return found


def _defines(statement: ast.stmt, kind: str, name: str) -> bool:
    """Tell whether a statement makes an object of Feast with this name."""
    suffix = {"view": "View", "service": "Service", "source": "Source"}[kind]
    for call in ast.walk(statement):
        if not isinstance(call, ast.Call):
            continue
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = [keyword.value for keyword in call.keywords if keyword.arg == "name"] or call.args[:1]
        is_name = any(isinstance(each, ast.Constant) and each.value == name for each in given)
        if is_name and function.endswith((suffix, f"_{kind}")):
            return True
    return False


def _named_part(statement: ast.stmt, names: list[str]) -> ast.Constant | None:
    """Return the text in a statement that the names stand for: the first one, or a later one in its line."""
    texts = [each for each in ast.walk(statement) if isinstance(each, ast.Constant)]
    found: ast.Constant | None = None
    for name in names:
        for each in texts:
            if each.value == name and (found is None or each.lineno == found.lineno):
                found = each
                break
    return found


def _value_place(path: Path, value: str) -> str | None:
    if not path.is_file():
        return None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        key, _, rest = line.partition(":")
        if rest.strip().strip("'\"") == value:
            return f"{number}:{len(key) - len(key.lstrip()) + 1}"
    return None
