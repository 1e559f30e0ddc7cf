"""The contract of a version: its task and classes, its inputs, and the code that it may contain."""

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.model_registry import input_format
from services.model_registry.golden_batch import GoldenBatch
from services.model_registry.input_format import Formats, InputFormat
from services.model_registry.model_inputs import Columns, Inputs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams.codec import FieldType

BINARY = 2


class ContractError(ValueError):
    """A model does not match its model.yaml, or contains what this installation does not allow."""


class Model(Protocol):
    """A loaded model."""

    @property
    def size_bytes(self) -> int:
        """About how much memory the model takes."""

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the outputs for n rows; blocking.

        For a binary model the probability of class 1 (n,), for a regression the value (n,), for more classes
        their probabilities (n, n_classes) in the declared order.
        """


@dataclasses.dataclass(frozen=True)
class LoadedVersion:
    """A model that can predict, and the golden batch that it has repeated."""

    model: Model
    batch: GoldenBatch | None = None
    """None for a version that the learning process has published."""

    @property
    def size_bytes(self) -> int:
        """About how much memory the model takes."""
        return self.model.size_bytes


@dataclasses.dataclass(frozen=True)
class Contract:
    """What one version must match."""

    settings: Settings
    declaration: ModelDeclaration
    wanted: Inputs
    """The version's inputs, in the order of its signature; checked against what is served."""
    formats: Formats | None = None
    """How each input is converted for the model; None: no conversion."""

    def input_format(self) -> InputFormat:
        """Return the conversion of served columns to the model's."""
        formats = self.formats or input_format.as_served(self.wanted)
        return InputFormat({name: formats[name] for name in self.wanted}, declared_fields(self.declaration))


def declared_fields(declaration: ModelDeclaration) -> dict[str, FieldType]:
    """Return the declared types of the inputs that are fields of the request."""
    types = {field.name: field.type for field in declaration.request.fields}
    return {name: types[name] for name in declaration.features.from_request}


def class_order(declaration: ModelDeclaration, classes: list[Any]) -> list[int]:
    """Return the index at which a model has each declared class; raise `ContractError` if they differ."""
    if declaration.task == "binary":
        if [int(each) if isinstance(each, int | float) else each for each in classes] != [0, 1]:
            raise ContractError(
                f"its classes are {_listed(classes)}, but a binary model needs the labels 0 and 1"
            )
        return [0, 1]
    names = [str(each) for each in classes]
    if sorted(names) != sorted(declaration.classes):
        raise ContractError(
            f"its classes are {_listed(names)}, but model.yaml declares {_listed(declaration.classes)}: "
            "change model.yaml or train on these labels"
        )
    return [names.index(each) for each in declaration.classes]


def _listed(classes: Any) -> str:
    return ", ".join(map(str, classes)) or "none"
