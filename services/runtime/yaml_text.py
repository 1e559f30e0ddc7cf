"""Generated YAML as text: always the same for the same content. Pure."""

import io
from typing import Any


def as_yaml(content: Any, width: int) -> str:
    """Return content in block style, in its own order, without anchors; lines are folded at a width."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = width
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None by ruamel
    yaml.representer.ignore_aliases = lambda _: True
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
