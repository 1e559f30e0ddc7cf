"""The signed tags of versions that were loaded on this machine, so that they load while the registry is away.

They are kept beside the files of `services.model_registry.version_cache`. Nothing is trusted because it is
here: at each load the signature of the tags and the digest of the files are verified again.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from services.model_registry.mlflow_client import SIGNED_TAGS

log = structlog.get_logger()

FOLDER = "model-tags"
VERSIONS_MAX = 200
"""Maximum versions of a model whose tags are kept; the ones loaded longest ago are removed."""


class SignedTags:
    """The kept tags of one model."""

    def __init__(self, home: Path, model: str) -> None:
        """Take the home folder of the installation; nothing is written before `keep`."""
        self._folder = home / FOLDER / model

    def keep(self, version: int, tags: Mapping[str, str]) -> None:
        """Keep the tags of a version that was verified and loaded; without them if the disk is full."""
        kept = {name: tags[name] for name in SIGNED_TAGS}
        path = self._path(version)
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(kept))
            new.rename(path)
            self._remove_old()
        except OSError as error:
            log.warning("version.tags_not_kept", path=str(path), error=repr(error))
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)

    def read(self, version: int) -> dict[str, str] | None:
        """Return the tags of a version; None if they are not here, or cannot be read."""
        path = self._path(version)
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("version.tags_unreadable", path=str(path), error=repr(error))
            return None

    def _path(self, version: int) -> Path:
        return self._folder / f"{version}.json"

    def _remove_old(self) -> None:
        kept = sorted(self._folder.glob("*.json"), key=os.path.getmtime)
        for path in kept[:-VERSIONS_MAX]:
            path.unlink(missing_ok=True)
