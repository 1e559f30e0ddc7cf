"""The loader of each flavour of model; to support another flavour, add an entry to `LOADERS`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from services.model_registry import pyfunc_model
from services.model_registry.contract import Contract, ContractError, Model
from services.model_registry.sklearn_flavour import model as sklearn_model

Loader = Callable[[Path, Contract], Model]
"""Loads the model in a verified folder; raises `ContractError` if it must not or cannot be served."""

LOADERS: Mapping[str, Loader] = {
    sklearn_model.FLAVOUR: sklearn_model.load,
    pyfunc_model.FLAVOUR: pyfunc_model.load,
}
DATA = frozenset({sklearn_model.FLAVOUR})
"""Flavours whose models are data, which can be sent between processes; the others are code."""


def load(flavour: str, folder: Path, contract: Contract) -> Model:
    """Load a model of a named flavour."""
    loader = LOADERS.get(flavour)
    if loader is None:
        raise ContractError(f"its flavour {flavour!r} is not supported; supported are {', '.join(LOADERS)}")
    try:
        return loader(folder, contract)
    except ContractError:
        raise
    except Exception as error:  # any error of a library or of the model means that this version does not load
        raise ContractError(
            f"it does not load: {error!r}: install the library versions with which it was registered, or "
            "register it again"
        ) from error
