"""A generated section is replaced in its page, and nothing else is."""

from pathlib import Path

import pytest

from services.operations.generated_section import GeneratedSection


def section(page: Path) -> GeneratedSection:
    return GeneratedSection("table", page, "-m some.module", lambda: "new")


def test_stale_section_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    table = section(page)
    page.write_text(f"above\n{table.begin}\nold\n{table.end}\nbelow\n", encoding="utf-8")
    assert not table.is_current()
    table.write()
    assert page.read_text(encoding="utf-8") == f"above\n{table.begin}\nnew\n{table.end}\nbelow\n"
    assert table.is_current()


def test_page_without_the_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="table: begin"):
        section(tmp_path / "page.md").replaced_in("# Title\n")
