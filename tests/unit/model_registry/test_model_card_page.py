"""The same card as Markdown and as HTML, with every text as a text."""

import base64
import hashlib

import pytest

from services.model_registry import model_card_page
from services.model_registry.model_card import CardSection, ModelCard

HOSTILE = "<script>alert(1)</script> a|b *c*"
CARD = ModelCard(
    "m",
    3,
    60_000,
    [
        CardSection("Intended use", "To warn.\n\nSecond paragraph."),
        CardSection("Limitations", remedy="write governance.limitations in model.yaml"),
        CardSection("Performance", "", ("measure", "value"), [("log_loss", HOSTILE)]),
        CardSection("Parameters", is_required=False),
    ],
)


def test_markdown_has_sections_tables_and_what_is_missing() -> None:
    text = model_card_page.as_markdown(CARD)
    assert text.startswith("# m version 3\n\nMade on 1970-01-01 00:01 UTC.\n**Missing: Limitations.**\n")
    assert "## Intended use\n\nTo warn.\n\nSecond paragraph.\n" in text
    assert "*Missing: write governance.limitations in model.yaml.*" in text
    assert "| measure | value |\n| --- | --- |\n| log\\_loss | " in text


def test_cell_of_a_table_stays_one_cell() -> None:
    row = next(line for line in model_card_page.as_markdown(CARD).splitlines() if "log" in line)
    assert row == r"| log\_loss | \<script\>alert(1)\</script\> a\|b \*c\* |"


def test_html_escapes_every_text() -> None:
    text = model_card_page.as_html(CARD)
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a|b *c*" in text
    assert "<p>To warn.</p>\n<p>Second paragraph.</p>" in text
    assert "<em>Missing: write governance.limitations in model.yaml.</em>" in text


def test_policy_allows_the_style_of_the_page_and_no_other() -> None:
    style = model_card_page.as_html(CARD).partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in model_card_page.CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("text", ["</style>", "<style"])
def test_style_cannot_end_early(text: str) -> None:
    assert text not in model_card_page.STYLE


def test_card_without_a_number_is_that_of_a_candidate() -> None:
    candidate = ModelCard("m", 0, 0, [])
    assert model_card_page.as_markdown(candidate).startswith("# m candidate\n")
    assert "<h1>m candidate</h1>" in model_card_page.as_html(candidate)
