"""The classes of a model are those that its declaration lists."""

import pytest

from services.model_registry.contract import ContractError, class_order
from tests.unit.model_registry.installation import declaration


def test_index_of_each_declared_class_is_returned():
    assert class_order(declaration("multiclass"), ["high", "low", "middle"]) == [1, 2, 0]
    assert class_order(declaration("binary"), [0, 1]) == [0, 1]
    assert class_order(declaration("binary"), [False, True]) == [0, 1]


@pytest.mark.parametrize(
    ("task", "classes", "fault"),
    [
        ("binary", [1, 0], "its classes are 1, 0, but a binary model needs"),
        ("binary", [], "its classes are none, but"),
        ("multiclass", ["low", "high"], "but model.yaml declares low, middle, high"),
    ],
)
def test_other_classes_are_refused(task, classes, fault):
    with pytest.raises(ContractError, match=fault):
        class_order(declaration(task), classes)
