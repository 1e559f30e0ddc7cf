"""What the number in the label of an outcome means, as a digest. Pure."""

import hashlib

from services.runtime.declaration import ModelDeclaration

_DIGEST_CHARS = 8


def label_definition(declaration: ModelDeclaration) -> str:
    """Return a digest of what turns a record of the label topic into the number of a label."""
    label = declaration.label
    kind = next(field.type for field in label.fields if field.name == label.value)
    task = f"{declaration.task} {list(declaration.classes)}"
    text = f"{task} {label.value}: {kind}, above {label.positive_above}"
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]
