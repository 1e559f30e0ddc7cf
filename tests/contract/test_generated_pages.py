"""The reference pages in docs/ are what the code says."""

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from services.operations import import_map, reference_pages, settings_page
from services.operations.generated_section import GeneratedSection
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import ROOT

SECTIONS = (settings_page.SECTION, import_map.SECTION, *reference_pages.SECTIONS)
MODEL_PAGE = ROOT / "docs" / "reference" / "model-yaml.md"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_section_is_current(section: GeneratedSection) -> None:
    assert section.is_current(), f"run: python {section.command}"


def keys_of(model: type[BaseModel]) -> set[str]:
    """Return the keys of a section of model.yaml, including those of the sections inside it."""
    keys: set[str] = set()
    for name, field in model.model_fields.items():
        keys |= {field.alias or name}
        for inner in classes_in(field.annotation):
            keys |= keys_of(inner)
    return keys


def classes_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in classes_in(argument)]


def test_every_key_of_model_yaml_is_documented() -> None:
    page = MODEL_PAGE.read_text(encoding="utf-8")
    assert not {key for key in keys_of(ModelDeclaration) if f"`{key}`" not in page and f"`{key}:" not in page}
