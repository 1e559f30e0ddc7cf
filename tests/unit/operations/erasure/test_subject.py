"""Entities and values of a command become a subject, or one sentence says what is wrong."""

import pytest

from services.operations.erasure import subject
from services.operations.erasure.subject import ErasureError
from tests.unit.operations.erasure import subjects


def test_a_subject_has_the_values_of_its_join_keys() -> None:
    found = subjects.of("customer", "ada", "desk", "07")
    assert found.parts == {"user": "ada", "desk": "7"}
    assert found.join_keys == ("desk", "user")
    assert found.name == "customer and desk"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "name an entity and its value; the entities are customer, desk, shop"),
        (("boat", "x"), "there is no entity 'boat'"),
        (("customer",), "the entity 'customer' has no value"),
        (("customer", ""), "the value of customer is empty: give the value of user"),
        (("customer", "a", "customer", "b"), "customer is named twice"),
        (("desk", "left"), "the value of desk must be an int32, 'left' is not"),
        (("desk", str(1 << 31)), "must be an int32"),
    ],
)
def test_bad_input_gets_one_sentence(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(ErasureError, match=text):
        subjects.of(*words)


def test_numbers_match_in_any_form_and_all_parts_have_to() -> None:
    found = subjects.of("customer", "ada", "desk", "7")
    assert found.is_in({"user": "ada", "desk": 7, "more": 1})
    assert found.is_in({"user": "ada", "desk": "7"})
    assert not found.is_in({"user": "ada", "desk": 8})
    assert not found.is_in({"user": "ada"})


def test_views_have_all_join_keys_of_the_subject() -> None:
    assert [view.name for view in subject.views_of(subjects.PLAN, subjects.of("customer", "ada"))] == [
        "by_user",
        "by_shop_user",
    ]
    both = subjects.of("customer", "ada", "shop", "mill")
    assert [view.name for view in subject.views_of(subjects.PLAN, both)] == ["by_shop_user"]
