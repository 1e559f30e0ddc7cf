"""scikit-learn estimators in skops' format: loading one runs no code from its file."""

import functools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.model_registry import model_inputs, skops_internals
from services.model_registry.contract import BINARY, Contract, ContractError, class_order
from services.model_registry.golden_batch import one_line
from services.model_registry.input_format import Formats, Marker
from services.model_registry.model_inputs import Columns
from services.model_registry.sklearn_flavour.fast_predict import FastPredictor, fast_predictor_of
from services.model_registry.sklearn_flavour.structure import Structure, structure_of
from services.runtime.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

FLAVOUR = "sklearn"
MODEL_FILE = "model.skops"

TRUSTED_TYPES = (
    "functools.partial",
    "numpy.dtype",
    "numpy.mean",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
    "scipy.sparse._csr.csr_array",
    "scipy.sparse._csr.csr_matrix",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    *(
        f"sklearn.feature_selection._univariate_selection.{name}"
        for name in ("chi2", "f_classif", "f_regression", "r_regression")
    ),
    *(
        f"sklearn.gaussian_process.kernels.{name}"
        for name in ("ConstantKernel", "Matern", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel")
    ),
    *(
        f"sklearn.metrics._dist_metrics.{name}Distance64"
        for name in ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")
    ),
    "sklearn.metrics._classification.balanced_accuracy_score",
    *(f"sklearn.metrics._scorer.{name}" for name in ("_CurveScorer", "_PassthroughScorer", "_Scorer")),
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.multiclass._ConstantPredictor",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "sklearn.utils.validation.check_array",
)
"""Types that a model file may hold in addition to skops' own list; skops audits every nested type as well.
They are what scikit-learn's own classes hold with their default settings (`tests/contract` tries them all).
The list is part of this installation: MLflow's loader would read it from the untrusted file itself. Its types
run nothing when they are created, and its functions only compute: numpy's as a whole are not trusted, because
some write or read files. But trees and neighbours with inconsistent arrays read memory out of bounds:
therefore versions are signed."""


class SklearnModel:
    """A classifier, regressor or pipeline."""

    def __init__(self, estimator: Any, contract: Contract, size_bytes: int = 0) -> None:
        """Take a fitted estimator; raise `ContractError` if it does not match the task."""
        self.size_bytes = size_bytes
        self._estimator = estimator
        self._contract = contract
        self._names = list(contract.wanted)
        self._knows_names = _check_names(estimator, self._names)
        self.class_order = _class_order(estimator, contract)
        """Index at which the estimator has each declared class; empty for a regression."""
        self._input_format = contract.input_format()

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process as estimator and contract; the other process compiles it again."""
        return SklearnModel, (self._estimator, self._contract, self.size_bytes)

    @functools.cached_property
    def _fast_predictor(self) -> FastPredictor | None:
        """Compiled with the first call, which is that of the golden batch: an author's model needs none."""
        return fast_predictor_of(self._estimator, self._contract.wanted, self._input_format)

    @functools.cached_property
    def structure(self) -> Structure | None:
        """The last step and the origins of its columns; None if they are not known."""
        return structure_of(self._estimator, self._names, self._estimator_input)

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Return the outputs for n rows; see `services.model_registry.contract.Model`."""
        inputs = self._input_format.columns(columns)
        outputs = None if self._fast_predictor is None else self._fast_predictor.predict(inputs)
        if outputs is not None:
            return outputs if outputs.ndim == 1 else outputs[:, self.class_order]
        return self._outputs(self._rows(inputs))

    def predict_frame(self, rows: "pd.DataFrame") -> npt.NDArray[np.float64]:
        """Return the outputs for rows exactly as they are, which are those that the author saw."""
        return self._outputs(self._rows({name: rows[name].array for name in self._names}))

    def _outputs(self, rows: Any) -> npt.NDArray[np.float64]:
        if not self.class_order:
            return np.asarray(self._estimator.predict(rows), dtype=np.float64)
        probabilities = np.asarray(self._estimator.predict_proba(rows), dtype=np.float64)
        return probabilities[:, 1] if len(self.class_order) == BINARY else probabilities[:, self.class_order]

    def _estimator_input(self, columns: Columns) -> Any:
        return self._rows(self._input_format.columns(columns))

    def _rows(self, inputs: Mapping[str, Any]) -> Any:
        """Return a DataFrame for an estimator that was fitted with names, else a matrix in their order."""
        if self._knows_names:
            return model_inputs.frame(inputs, self._names)
        return np.column_stack([np.asarray(inputs[name]) for name in self._names])


def _check_names(estimator: Any, names: list[str]) -> bool:
    """Tell whether an estimator was fitted with names; raise `ContractError` if the signature differs."""
    known = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    if known and known != names:
        raise ContractError(
            f"it was fitted on the columns {', '.join(known)}, but its signature has {', '.join(names)}"
        )
    count = getattr(estimator, "n_features_in_", len(names))
    if count != len(names):
        raise ContractError(f"it was fitted on {count} columns, but its signature has {len(names)}")
    return bool(known)


def _class_order(estimator: Any, contract: Contract) -> list[int]:
    """Return the index at which the estimator has each declared class; empty for a regression."""
    task, kind = contract.declaration.task, type(estimator).__name__
    classes = np.asarray(getattr(estimator, "classes_", ())).tolist()
    if task == "regression":
        if classes or hasattr(estimator, "predict_proba") or not hasattr(estimator, "predict"):
            raise ContractError(f"the task is regression, but its estimator {kind} is not a regressor")
        return []
    if not hasattr(estimator, "predict_proba"):
        raise ContractError(f"the task is {task}, but its estimator {kind} has no predict_proba")
    return class_order(contract.declaration, classes)


def trusted_types(settings: Settings) -> list[str]:
    """Return the types that a model file may hold in addition to skops' own list."""
    return [*TRUSTED_TYPES, *settings.trusted_type_names]


def load(folder: Path, contract: Contract) -> SklearnModel:
    """Load the estimator in a folder; raise `ContractError` for types that are not trusted."""
    path = folder / MODEL_FILE
    if not path.is_file():
        raise ContractError(f"its file {MODEL_FILE} is missing: register it again")
    return SklearnModel(read(path, contract.settings), contract, _size_bytes(path))


def read(path: Path, settings: Settings) -> Any:
    """Load a file in skops' format; raise `ContractError` for types that are not trusted."""
    skops_io = skops_internals.skops_io()
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops_io.load(path, trusted=trusted_types(settings))
    except UntrustedTypesFoundException as error:
        raise _untrusted(error) from error


def _untrusted(error: BaseException) -> ContractError:
    return ContractError(f"{error} If they are safe, add them to DRIFTLINE_TRUSTED_TYPES")


def save(
    estimator: Any, formats: Formats, examples: "pd.DataFrame | None", folder: Path, settings: Settings
) -> None:
    """Save an estimator as an MLflow model in skops' format, with signature, input example and requirements.

    The requirements are given, because MLflow would infer them in a process that loads the model again: 10 s.
    Raises `ContractError` for types that are not trusted.
    """
    import mlflow.sklearn
    import sklearn
    import skops
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from skops.io.exceptions import UntrustedTypesFoundException

    columns: list[Any] = [
        ColSpec(each.type.value, name, required=each.marker is Marker.REFUSED)
        for name, each in formats.items()
    ]
    try:
        mlflow.sklearn.save_model(
            estimator,
            str(folder),
            serialization_format="skops",
            skops_trusted_types=trusted_types(settings),
            signature=ModelSignature(Schema(columns), Schema([ColSpec("double")])),
            input_example=examples,
            pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"],
            pyfunc_predict_fn="predict_proba" if hasattr(estimator, "predict_proba") else "predict",
        )
    except MlflowException as error:
        if isinstance(error.__context__, UntrustedTypesFoundException):
            raise _untrusted(error.__context__) from error
        raise ContractError(f"it cannot be saved: {one_line(error)}") from error
    except TypeError as error:  # of skops, which has no format for it
        raise ContractError(f"it cannot be saved: {one_line(error)}") from error


def _size_bytes(path: Path) -> int:
    """Return about how much memory the loaded model takes: the uncompressed size of its arrays."""
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())
