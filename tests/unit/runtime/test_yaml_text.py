"""Generated YAML."""

from services.runtime.yaml_text import as_yaml


def test_keys_keep_their_order_and_repeated_parts_have_no_anchors() -> None:
    part = {"b": 1, "a": [2]}
    assert as_yaml({"z": part, "y": part}, 80) == "z:\n  b: 1\n  a:\n  - 2\ny:\n  b: 1\n  a:\n  - 2\n"


def test_long_lines_are_folded_at_the_width_only() -> None:
    text = "word " * 30
    assert as_yaml({"text": text.strip()}, 4096).count("\n") == 1
    assert as_yaml({"text": text.strip()}, 40).count("\n") > 1
