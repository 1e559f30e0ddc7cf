"""The table of all settings in docs/reference/settings.md, made from `Settings` itself.

``python -m services.operations.settings_page`` writes it again; a test fails when it is out of date.
"""

from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services.operations.generated_section import GeneratedSection
from services.runtime.settings import ROOT, Settings


def settings_table() -> str:
    """Return a Markdown table with one row per setting, in the order of the declaration."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join(["| Variable | Default | Meaning |", "|---|---|---|", *rows])


SECTION = GeneratedSection(
    "settings",
    ROOT / "docs" / "reference" / "settings.md",
    "-m services.operations.settings_page",
    settings_table,
)


def _row(name: str, field: FieldInfo) -> str:
    meaning = field.description or ""
    if get_origin(field.annotation) is Literal:
        meaning += f" ({', '.join(map(str, get_args(field.annotation)))})"
    return f"| `DRIFTLINE_{name.upper()}` | {_default(field.default)} | {meaning} |"


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, "") else f"`{value}`"


if __name__ == "__main__":
    SECTION.write()
