"""What the stored rows of a view depend on, as a digest: rows of another definition have another meaning."""

import hashlib

import msgspec

from services.feature_store.plan import View

_INDEPENDENT = frozenset({"ttl_ms", "batch_file"})
"""Attributes of a view that its rows do not depend on."""


def digest(project: str, view: View) -> str:
    """Return a digest of everything that a view's rows depend on: 32 hexadecimal digits."""
    attributes = {name: getattr(view, name) for name in view.__dataclass_fields__ if name not in _INDEPENDENT}
    return hashlib.sha256(msgspec.json.encode([project, attributes])).hexdigest()[:32]


def short_digest(project: str, view: View) -> int:
    """Return the first 32 bits of `digest`, which every row carries."""
    return int(digest(project, view)[:8], 16)
