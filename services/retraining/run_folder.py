"""The folder of one retraining: what its steps read and write, each file under one name.

The service fills it before the first step; from then on a step needs no Kafka. So the same folder can be
worked on by hand, and a step that was killed is repeated with the same inputs.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from services.model_registry import model_card_store
from services.model_registry.model_inputs import InputKind
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import records

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST = "request.json"
CONTEXT = "context.json"
DECLARATION = "declaration.json"
CODE = "code"
"""The files of the model's own folder, as they were when the run began."""
TRAINING_CODE = f"{CODE}/training.py"
DATA = "data.parquet"
DATA_VERSION = "data.json"
VALIDATION = "validation.json"
VALIDATION_PAGE = "validation.html"
CHOICES = "choices.json"
"""What the step train has chosen on rows before the held-out days."""
GIVEN_CHOICES = "given_choices.json"
"""The choices of a training that is reproduced; the step train takes them instead of choosing again."""
ESTIMATORS = "estimators.joblib"
HELD_OUT = "held_out.npz"
EVALUATION = "evaluation.json"
GATES = "gates.json"
MODEL_CARD = f"{model_card_store.FOLDER}/{model_card_store.JSON_FILE}"
MODEL_CARD_MARKDOWN = f"{model_card_store.FOLDER}/{model_card_store.MARKDOWN_FILE}"
MODEL_CARD_PAGE = f"{model_card_store.FOLDER}/{model_card_store.HTML_FILE}"
REFERENCE = "reference.json"
PLOTS = "plots"
"""A folder of pictures."""
REGISTERED = "registered.json"
FAILURE = "failure.json"
"""Why the last attempt failed; `services.retraining.training_process` reads it."""
LOCK = "lock"
RUNS_KEPT = 3
"""Runs of a model that stay on the disk."""
_CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Decoded = TypeVar("Decoded")


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What was known when the run began, and is on Kafka or in the installation."""

    offsets: dict[str, list[int]] = {}
    """The next offset of each partition that the archive must hold, by topic."""
    champion: int | None = None
    """The version that served at the time of the request; None: none did."""
    given: dict[str, InputKind]
    """The inputs that are served to the model, in order."""
    definitions: dict[str, str] = {}
    """Digests of how the features are defined, by feature."""
    feature_sets: list[records.FeatureSet] = []
    """The published names of the features that rows hold, in the order in which they were published."""
    reference: records.Reference | None = None
    """Of the champion, if the models topic has it."""
    tables: dict[str, int] = {}
    """Versions of the Delta tables to read; empty: the latest."""
    code: dict[str, str] = {}
    """What the code was, for the tags of the run: see `services.retraining.code_version`."""


class RunFolder:
    """One folder. A file is complete or absent: it is written under another name first."""

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is created before the first write."""
        self.path = path

    def read(self, name: str, kind: type[Decoded]) -> Decoded:
        """Return the content of a JSON file."""
        return msgspec.json.decode((self.path / name).read_bytes(), type=kind)

    def write(self, name: str, value: Any) -> None:
        """Write a value as a JSON file."""
        self.write_bytes(name, msgspec.json.format(msgspec.json.encode(value), indent=1))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file."""
        path = self.begin(name)
        path.write_bytes(content)
        self.finish(name)

    def begin(self, name: str) -> Path:
        """Return the path at which a file is to be written; `finish` gives it its name."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}.part")

    def finish(self, name: str) -> None:
        """Give a file that was written at the path of `begin` its name."""
        part = self.begin(name)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(self.path / name)

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        return (self.path / name).is_file()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of a file in hexadecimal digits; None if it is absent."""
        if not self.has(name):
            return None
        found = hashlib.sha256()
        with (self.path / name).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                found.update(chunk)
        return found.hexdigest()

    @property
    def request(self) -> records.RetrainingRequested:
        """The request."""
        return self.read(REQUEST, records.RetrainingRequested)

    @property
    def context(self) -> RunContext:
        """What was known when the run began."""
        return self.read(CONTEXT, RunContext)

    @property
    def declaration(self) -> ModelDeclaration:
        """The declaration of the model when the run began."""
        return ModelDeclaration.model_validate_json((self.path / DECLARATION).read_bytes())

    def keep_code(self, folder: Path) -> None:
        """Copy the files of a model's folder; what is not of them, such as bytecode, is removed."""
        kept = self.path / CODE
        kept.mkdir(parents=True, exist_ok=True)
        files = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
        for path in [path for path in kept.iterdir() if path.name not in files]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in sorted(files):
            if _content(kept / name) != (content := (folder / name).read_bytes()):
                self.write_bytes(f"{CODE}/{name}", content)

    def code_files(self) -> list[Path]:
        """Return the kept files of the model's folder, sorted, without folders such as bytecode."""
        code = self.path / CODE
        return sorted(path for path in code.iterdir() if path.is_file()) if code.is_dir() else []

    def remove_all(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def of_request(settings: Settings, model: str, request_id: str) -> RunFolder:
    """Return the folder of a request: ``runs/<model>/<request_id>`` in the home folder."""
    return RunFolder(settings.home.resolve() / "runs" / _file_name(model) / _file_name(request_id))


def _file_name(name: str) -> str:
    """Return a name for a folder: an id may hold any characters, and ids that differ get other folders.

    >>> _file_name("delays-1700000000000")
    'delays-1700000000000'
    >>> _file_name("../etc")
    '96345b94c7bd8f85'
    """
    return name if _NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:16]


def prepare(
    run: RunFolder,
    request: records.RetrainingRequested,
    declaration: ModelDeclaration,
    context: RunContext,
    code: Path,
) -> None:
    """Fill a folder for its first step.

    A folder that has a context keeps it, so that a repeat compares with the same champion. Declaration and
    code are those of now: they may have been mended since the last attempt.
    """
    given: Mapping[str, Any] = declaration.model_dump(mode="json", by_alias=True, exclude_unset=True)
    run.write(REQUEST, request)
    if not run.has(CONTEXT):
        run.write(CONTEXT, context)
    run.write(DECLARATION, given)
    run.keep_code(code)


def remove_old(run: RunFolder, kept: int = RUNS_KEPT) -> None:
    """Remove all runs of a model but this one and the latest others, which people may want to look at."""
    found = sorted(run.path.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in [path for path in found if path != run.path][kept - 1 :]:
        RunFolder(path).remove_all()
