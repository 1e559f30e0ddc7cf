"""Reader of ``models/<name>/model.yaml``: errors name file, line and column, and are reported together."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from services.runtime.declaration import EACH_ALONE, FILE, DeclarationError, ModelDeclaration
from services.runtime.suggestions import nearest, suggestion

BYTES_MAX = 256 << 10
"""Maximum size of a model.yaml. Reading 1 MiB of YAML takes seconds, in which a process does nothing else."""
ROUNDS_MAX = 4
"""Values, sections, what is between sections, and once more for what a misspelt key has hidden."""
_WHERE = (
    "a model is a folder that holds a model.yaml; start driftline beside models/, or set DRIFTLINE_MODELS"
)
_QUOTED = re.compile(r"'([^']*)'")


class Examined(NamedTuple):
    """What a model.yaml says, and what is wrong with it."""

    declaration: ModelDeclaration | None
    """The declaration without what is wrong in it; None if too little is left."""
    faults: list[str]
    """A line for each error: ``file:line:column: setting: text``."""


def load(path: Path) -> ModelDeclaration:
    """Read one model.yaml; raise `DeclarationError` that lists every error with its position."""
    declaration, faults = examined(path)
    if faults or declaration is None:
        raise DeclarationError("\n".join(faults))
    return declaration


def examined(path: Path) -> Examined:
    """Read one model.yaml as far as possible."""
    if not path.is_file():
        return Examined(None, [f"{path}: no such file; a model is a folder that holds a model.yaml"])
    try:
        return _examined(path)
    except Exception as error:  # noqa: BLE001  # the YAML library raises any kind for values that it cannot make
        return Examined(None, [f"{path}:1:1: cannot be read: {type(error).__name__}: {error}"])


def _examined(path: Path) -> Examined:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if (size_bytes := path.stat().st_size) > BYTES_MAX:
        return Examined(None, [f"{path}:1:1: the file has {size_bytes} bytes, the limit is {BYTES_MAX}"])
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        return Examined(None, [f"{path}:{place}: {getattr(error, 'problem', error)}"])
    return _validated(path, document)


def _validated(path: Path, document: Any) -> Examined:
    """Validate again without what was wrong, as long as that shows further errors.

    The checks of a section run only when its values are right, and those between sections only when all
    sections are.
    """
    faults: list[str] = []
    left_out: list[str] = []
    for _ in range(ROUNDS_MAX):
        try:
            return Examined(ModelDeclaration.model_validate(document), faults)
        except ValidationError as error:
            details = error.errors()
        found = [line for detail in details for line in _described(path, document, detail, left_out)]
        faults += [line for line in found if line not in faults]
        for detail in reversed(details):  # from the end, so that positions in lists stay right
            left_out += _leave_out(document, detail)
    with contextlib.suppress(ValidationError):
        return Examined(ModelDeclaration.model_validate(document, context=EACH_ALONE), faults)
    return Examined(None, faults)


def _leave_out(document: Any, detail: ErrorDetails) -> list[str]:
    """Remove what is wrong from a document, or give a misspelt key its name; return what was removed."""
    *parents, last = detail["loc"] or ("",)
    section = document
    for part in parents:
        section = section[_key(section, part)] if _key(section, part) is not None else None
    key = _key(section, last)
    if key is None:
        return []
    if detail["type"] == "extra_forbidden":
        near = nearest(str(last), _settings_of(detail["loc"]))
        if near is not None and near not in section:
            marks, value = section.lc.data[key], section.pop(key)
            section[near] = value
            section.lc.data[near] = marks
            return []
    del section[key]
    return [".".join(str(part) for part in detail["loc"] if not isinstance(part, int))]


def _key(node: Any, part: int | str) -> Any:
    """Return the key of a dict or list that a part of a path stands for; None if there is none."""
    if isinstance(node, dict):  # keys may be numbers in YAML, the path has texts
        return next((key for key in node if str(key) == str(part)), None)
    return part if isinstance(node, list) and isinstance(part, int) and part < len(node) else None


def load_all(folder: Path) -> dict[str, ModelDeclaration]:
    """Read the declarations in all subfolders of a folder, by model name."""
    declarations, faults = {}, []
    for name, (declaration, found) in examine_all(folder).items():
        faults += found
        if declaration is not None:
            declarations[name] = declaration
    if faults:
        raise DeclarationError("\n".join(faults))
    return declarations


def examine_all(folder: Path) -> dict[str, Examined]:
    """Read the declarations in all subfolders of a folder as far as possible, by the name of the subfolder.

    Raises `DeclarationError` if there is none.
    """
    paths = sorted(folder.glob(f"*/{FILE}"))
    if not paths:
        raise DeclarationError(f"{folder}: no model found; {_WHERE}")
    return {path.parent.name: _examined_named(path) for path in paths}


def _examined_named(path: Path) -> Examined:
    declaration, faults = examined(path)
    name = path.parent.name
    if declaration is not None and declaration.name != name:
        text = f"is {declaration.name!r}, but the folder is {name!r}: rename one"
        faults = [*positioned(path, [(("name",), text)]), *faults]
    return Examined(declaration, faults)


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
    declaration, faults = _examined_named(path)
    if faults or declaration is None:
        raise DeclarationError("\n".join(faults))
    return declaration


def _described(path: Path, document: Any, detail: ErrorDetails, left_out: Sequence[str]) -> Iterator[str]:
    """Yield a line for each line of an error's message, but none that follows from what was left out."""
    place = [part for part in detail["loc"] if part != "__root__"]
    if left_out and detail["type"] == "missing":
        return
    for text in detail["msg"].removeprefix("Value error, ").splitlines():
        if any(name in text for name in left_out):
            continue
        message = text
        if detail["type"] == "extra_forbidden":
            message = "unknown setting" + suggestion(str(place[-1]), _settings_of(place))
        named = _named_place(message)
        line, column = _position(document, [*place, *named], _QUOTED.findall(message))
        is_named = not place and named[0] in ModelDeclaration.model_fields
        setting = "" if is_named else f"{'.'.join(map(str, place)) or 'model'}: "
        yield f"{path}:{line}:{column}: {setting}{message}"


def _named_place(message: str) -> list[str]:
    """Return the path of the setting with which a message starts: "features.from_request names ..."."""
    return re.split(r"[: ]", message, maxsplit=1)[0].split(".")


def _position(document: Any, place: Sequence[int | str], names: Sequence[str] = ()) -> tuple[int, int]:
    """Find the line and column, counted from 1, of the deepest part of the path that exists.

    Args:
        document: What the YAML library has read.
        place: The path.
        names: If one is a key or an item of that part, its position is returned.
    """
    position, node = (0, 0), document
    for part in place:
        key = _key(node, part)
        if key is None:
            break
        position, node = _marked(node, key), node[key]
    for name in names:
        key = node.index(name) if isinstance(node, list) and name in node else _key(node, name)
        if key is not None:
            position = _marked(node, key)
    return position[0] + 1, position[1] + 1


def _marked(node: Any, key: Any) -> tuple[int, int]:
    """Return line and column of a key or an item, counted from 0."""
    line, column = node.lc.key(key) if hasattr(node, "keys") else node.lc.item(key)
    return line, column


def _settings_of(place: Sequence[int | str]) -> list[str]:
    """Return the settings of the section that holds an unknown one."""
    section: Any = ModelDeclaration
    for part in place[:-1]:
        section = _inner(section, part)
    return [field.alias or name for name, field in section.model_fields.items()]


def _inner(section: Any, part: int | str) -> Any:
    """Return the type of a part of a section, of a list of sections, or of sections by name."""
    kind = get_origin(section)
    if kind in (dict, tuple):
        return get_args(section)[kind is dict]
    annotation = section.model_fields[str(part)].annotation
    optional = get_origin(annotation) is UnionType  # a section that may be missing
    return get_args(annotation)[0] if optional else annotation
