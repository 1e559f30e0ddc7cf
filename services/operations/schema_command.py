"""``driftline schema``: the JSON Schema of model.yaml, with which editors complete and check it."""

from pathlib import Path
from typing import Any

import msgspec

from services.runtime.command_output import ok, say
from services.runtime.declaration import ModelDeclaration

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(path: Path | None = None) -> None:
    """Write the JSON Schema of model.yaml, made from the code that reads it.

    It knows keys, types and bounds; what concerns several keys, driftline check finds.

    Args:
        path: The file; default: standard output.
    """
    text = msgspec.json.format(msgspec.json.encode(document()), indent=2).decode()
    if path is None:
        say(text)
        return
    path.write_text(f"{text}\n", encoding="utf-8")
    ok(f"wrote {path}")


def document() -> dict[str, Any]:
    """Return the schema."""
    return {"$schema": DIALECT, **ModelDeclaration.model_json_schema(), "title": "model.yaml of Driftline"}
