"""Whether a version that an operator names can be loaded."""

from services.model_registry import learned_versions, mlflow_client
from services.operations.models.arm_changes import ChangeError
from services.runtime import declaration_file, kafka_consumers
from services.runtime.declaration import FILE
from services.runtime.large_records import LargeRecordError
from services.runtime.settings import Settings
from streams import topics


def check_version(settings: Settings, model: str, version: int) -> None:
    """Raise `ChangeError` unless the version can be loaded, from the registry or the learned topic."""
    path = settings.models / model / FILE
    if path.is_file() and declaration_file.load(path).learning is not None:
        if not _is_kept(settings, model, version):
            raise ChangeError(
                f"{model} learns online, and version {version} is not, or no longer, in {topics.LEARNED.name}"
            )
        return
    from mlflow.exceptions import MlflowException  # late: imports MLflow, 3 s

    try:
        mlflow_client.connect(settings).get_model_version(model, str(version))
    except MlflowException as error:
        raise ChangeError(
            f"the registry at {settings.mlflow_uri} has no {model} version {version}"
        ) from error


def _is_kept(settings: Settings, model: str, version: int) -> bool:
    consumer = kafka_consumers.connect(settings, "arms")
    try:
        return learned_versions.find(consumer, model, version) is not None
    except LargeRecordError:
        return False  # a later version is being written in its place
    finally:
        consumer.close()
