"""Reader of ``models/<name>/model.yaml``: errors name file, line and column, and are reported together."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from services.runtime.declaration import FILE, DeclarationError, ModelDeclaration

BYTES_MAX = 256 << 10
"""Maximum size of a model.yaml. Reading 1 MiB of YAML takes seconds, in which a process does nothing else."""


def load(path: Path) -> ModelDeclaration:
    """Read one model.yaml; raise `DeclarationError` that lists every error with its position."""
    if not path.is_file():
        raise DeclarationError(f"{path}: no such file; a model is a folder that holds a model.yaml")
    try:
        return _load(path)
    except DeclarationError:
        raise
    except Exception as error:  # the YAML library raises errors of any kind for values that it cannot make
        raise DeclarationError(f"{path}:1:1: cannot be read: {type(error).__name__}: {error}") from error


def _load(path: Path) -> ModelDeclaration:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if (size_bytes := path.stat().st_size) > BYTES_MAX:
        raise DeclarationError(f"{path}:1:1: the file has {size_bytes} bytes, the limit is {BYTES_MAX}")
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise DeclarationError(f"{path}:{place}: {getattr(error, 'problem', error)}") from error
    try:
        return ModelDeclaration.model_validate(document)
    except ValidationError as error:
        lines = [_describe(path, document, detail) for detail in error.errors()]
        raise DeclarationError("\n".join(lines)) from error


def load_all(folder: Path) -> dict[str, ModelDeclaration]:
    """Read the declarations in all subfolders of a folder, by model name."""
    paths = sorted(folder.glob(f"*/{FILE}"))
    if not paths:
        raise DeclarationError(f"{folder}: no model found; a model is a folder that holds a model.yaml")
    declarations, faults = {}, []
    for path in paths:
        try:
            declarations[path.parent.name] = load_named(path)
        except DeclarationError as error:
            faults.append(str(error))
    if faults:
        raise DeclarationError("\n".join(faults))
    return declarations


class DeclarationFolder:
    """The declarations of a folder, each read separately: an invalid one does not hide the others."""

    def __init__(self, folder: Path) -> None:
        """Read the folder."""
        self.valid: dict[str, ModelDeclaration] = {}
        """Declarations by model. A model whose model.yaml has become invalid keeps its last valid
        declaration."""
        self.faults: dict[str, str] = {}
        """Why a model.yaml cannot be read, by model."""
        self._folder = folder
        self._stamps: dict[str, object] = {}
        self.refresh()

    def refresh(self) -> frozenset[str]:
        """Read what has changed since the last call; return the models that were added, changed or removed.

        A model has changed if its model.yaml or another file directly beside it has.
        """
        stamps = {path.parent.name: _stamp(path.parent) for path in self._folder.glob(f"*/{FILE}")}
        changed = {name for name in stamps | self._stamps if stamps.get(name) != self._stamps.get(name)}
        self._stamps = stamps
        for name in sorted(changed):
            self._read(name)
        return frozenset(changed)

    def _read(self, name: str) -> None:
        self.faults.pop(_printable(name), None)
        if name not in self._stamps:
            self.valid.pop(name, None)
            return
        try:
            self.valid[name] = load_named(self._folder / name / FILE)
        except DeclarationError as error:
            self.faults[_printable(name)] = _printable(str(error))


def _printable(text: str) -> str:
    """Return a text that can be written as UTF-8: names of folders may hold any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _stamp(folder: Path) -> object:
    """Return what changes with the files of a folder."""
    with contextlib.suppress(OSError):  # a file is replaced at this moment: the next stamp differs
        found = [(each.name, each.stat()) for each in sorted(folder.iterdir()) if each.is_file()]
        return [(name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found]
    return None


def positioned(path: Path, faults: Iterable[tuple[Sequence[int | str], str]]) -> list[str]:
    """Return a line with file, line and column for each fault of a setting: its path, and what is wrong."""
    from ruamel.yaml import YAML

    document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    lines = []
    for place, text in faults:
        line, column = _position(document, place)
        lines.append(f"{path}:{line}:{column}: {'.'.join(map(str, place))}: {text}")
    return lines


def load_named(path: Path) -> ModelDeclaration:
    """Read one model.yaml whose folder must have the name of the model; raise `DeclarationError`."""
    declaration = load(path)
    if declaration.name != path.parent.name:
        raise DeclarationError(
            f"{path}: name is {declaration.name!r}, but the folder is {path.parent.name!r}: rename one"
        )
    return declaration


def _describe(path: Path, document: Any, detail: ErrorDetails) -> str:
    place = [part for part in detail["loc"] if part != "__root__"]
    message = detail["msg"].removeprefix("Value error, ")
    line, column = _position(document, place or _named_place(message))
    if detail["type"] == "extra_forbidden":
        message = "unknown setting" + _suggestion(place)
    dotted = ".".join(map(str, place)) or "model"
    return f"{path}:{line}:{column}: {dotted}: {message}"


def _named_place(message: str) -> list[str]:
    """Return the path of the setting with which a message starts: "features.from_request names ..."."""
    return re.split(r"[: ]", message, maxsplit=1)[0].split(".")


def _position(node: Any, place: Sequence[int | str]) -> tuple[int, int]:
    """Find the line and column, counted from 1, of the deepest part of the path that exists."""
    line, column = 0, 0
    for part in place:
        marks = getattr(node, "lc", None)
        if marks is None:
            break
        if isinstance(node, dict):  # keys may be numbers in YAML, the path has texts
            keys = [key for key in node if str(key) == str(part)]
            if not keys:
                break
            line, column = marks.key(keys[0])
            node = node[keys[0]]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            line, column = marks.item(part)
            node = node[part]
        else:
            break
    return line + 1, column + 1


def _suggestion(place: Sequence[int | str]) -> str:
    """Suggest the most similar setting of the section that holds an unknown one."""
    section: Any = ModelDeclaration
    for part in place[:-1]:
        section = _inner(section, part)
    names = [field.alias or name for name, field in section.model_fields.items()]
    near = difflib.get_close_matches(str(place[-1]), names, n=1)
    return f" (did you mean {near[0]}?)" if near else f"; known are {', '.join(names)}"


def _inner(section: Any, part: int | str) -> Any:
    """Return the type of a part of a section, of a list of sections, or of sections by name."""
    kind = get_origin(section)
    if kind in (dict, tuple):
        return get_args(section)[kind is dict]
    annotation = section.model_fields[str(part)].annotation
    optional = get_origin(annotation) is UnionType  # a section that may be missing
    return get_args(annotation)[0] if optional else annotation
