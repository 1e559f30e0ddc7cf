"""How each flavour of model is loaded from its verified folder. A further flavour is a further line."""

from collections.abc import Callable, Mapping
from pathlib import Path

from services.model_registry import pyfunc_model
from services.model_registry.contract import Contract, ContractError, Model
from services.model_registry.sklearn_flavour import model as sklearn_model

Loader = Callable[[Path, Contract], Model]
"""Loads what is in a folder; raises `ContractError` for what must not or cannot be served."""

LOADERS: Mapping[str, Loader] = {
    sklearn_model.FLAVOUR: sklearn_model.load,
    pyfunc_model.FLAVOUR: pyfunc_model.load,
}
DATA = frozenset({sklearn_model.FLAVOUR})
"""Flavours whose models are data, which another process can hand over; the others are code."""


def load(flavour: str, folder: Path, contract: Contract) -> Model:
    """Load a model of a named flavour."""
    loader = LOADERS.get(flavour)
    if loader is None:
        raise ContractError(f"its flavour {flavour!r} is not known here; known are {', '.join(LOADERS)}")
    try:
        return loader(folder, contract)
    except ContractError:
        raise
    except Exception as error:  # whatever libraries and models raise, it is this version that does not load
        raise ContractError(
            f"it does not load: {error!r}; are its libraries of the same versions as where it was registered?"
        ) from error
