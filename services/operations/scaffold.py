"""A folder for a model of one's own, copied from a template.

Each folder of ``examples/`` is a template: it is checked and tested as it stands, and ``driftline check``
passes in a copy. A template holds one model, whose name a copy replaces in folders and texts.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.runtime.settings import ROOT
from services.runtime.suggestions import nearest

TEMPLATES = ROOT / "examples"
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""The rule for names of models, that of ``name`` in model.yaml."""
_HIDDEN = {"env": ".env", "gitignore": ".gitignore"}
"""Files that would take effect where the template is, and their names in a copy."""


class ScaffoldError(ValueError):
    """The folder cannot be made. The message says why, and what to do."""


def names(templates: Path = TEMPLATES) -> list[str]:
    """Return the names of the templates."""
    return sorted(path.parent.parent.parent.name for path in templates.glob("*/models/*/model.yaml"))


def create(parent: Path, name: str, template: str, templates: Path = TEMPLATES) -> Path:
    """Make the folder ``name`` in ``parent`` and return it; raise `ScaffoldError`.

    An empty folder of that name is used. If a file cannot be written, those written before remain.
    """
    _check_name(name)
    _check_template(template, names(templates))
    folder = parent / name
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ScaffoldError(f"{folder}: exists and is not empty; choose another name, or empty it")
    try:
        for path, content in contents(templates / template, name).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except OSError as error:
        raise ScaffoldError(f"{error.filename}: cannot be written ({error.strerror})") from error
    return folder


def contents(template: Path, name: str) -> Mapping[Path, bytes]:
    """Return the files of a copy by their path in it, with the model's new name."""
    (model,) = (path.name for path in (template / "models").iterdir() if path.is_dir())
    whole_word = re.compile(rf"\b{model}\b")
    found = {}
    for path in _files(template):
        text = path.read_text(encoding="utf-8")
        parts = [name if part == model else part for part in path.relative_to(template).parts]
        file = whole_word.sub(name, _HIDDEN.get(parts[-1], parts[-1]))
        found[Path(*parts[:-1], file)] = whole_word.sub(name, text).encode()
    return found


def _files(template: Path) -> Iterator[Path]:
    """Iterate over the files, without what Python and Driftline write beside them."""
    for path in sorted(template.rglob("*")):
        written = {"__pycache__", ".driftline"} & set(path.relative_to(template).parts)
        if path.is_file() and not written:
            yield path


def _check_name(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise ScaffoldError(
            f"{name}: cannot be the name of a model: use lower case letters, digits and _, a letter first, "
            "at most 63 characters"
        )


def _check_template(template: str, known: list[str]) -> None:
    if template not in known:
        near = nearest(template, known)
        hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
        raise ScaffoldError(f"--template {template}: there is no such template; {hint}")
