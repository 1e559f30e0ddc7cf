"""A model card as Markdown and as HTML. Pure, except for the templates beside this module."""

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from services.model_registry.model_card import CardSection, ModelCard, Row, missing_sections
from services.runtime import times

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|])")
_FOLDER = Path(__file__).parent / "templates"
STYLE = (_FOLDER / "model_card.css").read_text(encoding="utf-8")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""Header for the process that serves the page; it allows only the style in the page's head."""


def as_markdown(card: ModelCard) -> str:
    """Return the card as Markdown; texts of people keep their Markdown, cells of tables do not."""
    return "\n".join(_lines(card)) + "\n"


def as_html(card: ModelCard) -> str:
    """Return the card as one HTML document without scripts; every text is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("model_card.html")
    return template.render(
        style=STYLE, card=card, made=times.minute(card.made_ms), missing=missing_sections(card)
    )


def _lines(card: ModelCard) -> Iterator[str]:
    yield f"# {card.title}"
    yield ""
    yield f"Made on {times.minute(card.made_ms)}."
    if missing := missing_sections(card):
        yield f"**Missing: {', '.join(missing)}.**"
    for section in card.sections:
        yield from ("", f"## {section.title}", "")
        yield from _content(section)


def _content(section: CardSection) -> Iterator[str]:
    if section.is_missing:
        yield f"*Missing: {section.remedy}.*"
    if section.text:
        yield section.text
    if section.rows:
        yield _table_line(section.header)
        yield _table_line(tuple("---" for _ in section.header), escape=False)
        yield from (_table_line(row) for row in section.rows)


def _table_line(row: Row, *, escape: bool = True) -> str:
    cells = [_SPECIAL.sub(r"\\\1", " ".join(cell.split())) if escape else cell for cell in row]
    return f"| {' | '.join(cells)} |"
