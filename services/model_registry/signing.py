"""Ed25519 signatures of versions, and the keys that sign and verify them.

The signature covers model, flavour and digest. So a version can be used neither for another model nor with
another flavour, whose loader might run code that the right loader only reads. It does not cover the version
number, which the registry assigns later: anyone with write access to the registry can register an old version
of a model again, but no version that was not signed for that model.
"""

import base64
import contextlib
import dataclasses
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from services.runtime.settings import Settings

FORMAT = 1
"""Format of the signed text and of the digest in it."""
PRIVATE_FILE = "signing.pem"
PUBLIC_SUFFIX = ".pub.pem"
KEY_ID_LENGTH = 16
CONTEXT = b"driftline model version\n"
"""Prefix of the signed text, so that a signature that the same key made for another purpose is invalid."""


class SigningError(RuntimeError):
    """There is no usable key, or a signature is invalid. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """What a signature covers."""

    model: str
    flavour: str
    digest: str

    def text(self) -> bytes:
        """Return the bytes that are signed."""
        return CONTEXT + msgspec.json.encode({"format": FORMAT, **dataclasses.asdict(self)}, order="sorted")


def sign(settings: "Settings", statement: Statement) -> str:
    """Return a signature as ``<key id>:<base64>``; raise `SigningError` without a key.

    If no keys are configured, the first signature creates one; a configured key file must exist.
    """
    create = settings.signing_key_file is None and not are_provided(settings)
    key = _private_key(settings, create=create)
    return f"{_key_id(key.public_key())}:{base64.b64encode(key.sign(statement.text())).decode()}"


def verify(settings: "Settings", statement: Statement, signature: str) -> None:
    """Raise `SigningError` unless one of the verifying keys signed the statement.

    The keys are read each time: new and withdrawn keys are in effect without a restart.
    """
    from cryptography.exceptions import InvalidSignature

    key_id, _, encoded = signature.partition(":")
    keys = _public_keys(settings)
    if key_id not in keys:
        known = ", ".join(sorted(keys)) or "none"
        raise SigningError(
            f"it is signed with the key {key_id!r}, which is not trusted here: DRIFTLINE_VERIFYING_KEYS has "
            f"{known}; add the public key if its owner may publish models"
        )
    try:
        keys[key_id].verify(base64.b64decode(encoded, validate=True), statement.text())
    except (InvalidSignature, ValueError) as error:
        raise SigningError(
            f"its signature is not valid for model {statement.model}, flavour {statement.flavour} and digest "
            f"{statement.digest[:12]}: tags were changed or copied from another version; register it again"
        ) from error


def are_provided(settings: "Settings") -> bool:
    """Tell whether the operator provides the keys: then a key created here would not be trusted anywhere."""
    return bool(settings.verifying_keys)


def ensure_key(settings: "Settings") -> str:
    """Create the signing key if there is none, publish its public key, and return its id."""
    return _key_id(_private_key(settings, create=True).public_key())


def _private_key(settings: "Settings", *, create: bool) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = settings.signing_key_file or settings.keys / PRIVATE_FILE
    if create and not path.exists():
        _create(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise SigningError(
            f"cannot sign with {path}: {error}: DRIFTLINE_SIGNING_KEY_FILE must name an Ed25519 key; create "
            "one with 'driftline setup' or 'openssl genpkey -algorithm ed25519'"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(
            f"cannot sign with {path}: it is not an Ed25519 key; create one with "
            "'openssl genpkey -algorithm ed25519'"
        )
    if create:
        _publish(settings.keys, key.public_key())
    return key


def _create(path: Path) -> None:
    """Write a new key atomically, readable by its owner alone; keep an existing one."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    encoded = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with contextlib.suppress(FileExistsError):  # another process was faster: its key is used
        _put(path, encoded, mode=0o600)


def _publish(folder: Path, key: "Ed25519PublicKey") -> None:
    from cryptography.hazmat.primitives import serialization

    path = folder / f"{_key_id(key)}{PUBLIC_SUFFIX}"
    encoded = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with contextlib.suppress(FileExistsError):
        _put(path, encoded, mode=0o644)


def _put(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file atomically; raise FileExistsError if it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    try:
        os.link(new, path)
    finally:
        new.unlink()


def _public_keys(settings: "Settings") -> dict[str, "Ed25519PublicKey"]:
    return {_key_id(key): key for path in _key_files(settings.verifying_key_places) for key in [_read(path)]}


def _key_files(paths: Sequence[Path]) -> list[Path]:
    files = []
    for path in paths:
        files += sorted(path.glob(f"*{PUBLIC_SUFFIX}")) if path.is_dir() else [path]
    return [path for path in files if path.exists()]


def _read(path: Path) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key: Any = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SigningError(
            f"the key {path} in DRIFTLINE_VERIFYING_KEYS cannot be read: {error}: remove or replace it"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SigningError(
            f"the key {path} in DRIFTLINE_VERIFYING_KEYS is not an Ed25519 key: remove or replace it"
        )
    return key


def _key_id(key: "Ed25519PublicKey") -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:KEY_ID_LENGTH]
