"""Checks where a version's files are downloaded from: the registry's own artifacts, or an object store.

Everyone who may write to the registry can set the location of a version's files. The signature covers the
files, but they must be downloaded first. So a location that is a file of this machine, or an address that
this machine can reach and the writer cannot, is refused before anything is read.
"""

from urllib.parse import urlsplit

ARTIFACTS_SCHEME = "mlflow-artifacts"
"""Files that MLflow itself keeps and serves."""
OBJECT_STORES = frozenset({"abfss", "b2", "dbfs", "gs", "hdfs", "r2", "s3", "viewfs", "wasbs"})
"""Stores with their own addresses and credentials, which this machine's operator has set."""


class LocationError(ValueError):
    """Files are in a place from which none are downloaded."""


def check(uri: str, registry_uri: str) -> None:
    """Raise `LocationError` unless files at this URI may be downloaded.

    >>> check("mlflow-artifacts:/1/run/artifacts", "http://mlflow:5000")
    """
    parts = urlsplit(uri)
    if parts.scheme in OBJECT_STORES:
        return
    if parts.scheme == ARTIFACTS_SCHEME and parts.netloc in ("", urlsplit(registry_uri).netloc):
        return
    raise LocationError(
        f"its files are at {uri[:200]!r}, "
        "which is neither an artifact of the registry nor in an object store: "
        "start `mlflow server` with --artifacts-destination, so that it serves its files, and register again"
    )
