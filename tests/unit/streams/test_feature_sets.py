"""Rows are put into the order of wanted features by the names that were published."""

from streams import records
from streams.feature_sets import Alignment, FeatureSets, digest_of, feature_set, key_of

FIRST = feature_set("m", ["age", "carrier", "rate"], ["carrier"])
SECOND = feature_set("m", ["rate", "carrier", "income"], ["carrier"])
SETS = FeatureSets([FIRST, SECOND])


def test_a_digest_depends_on_names_order_and_types() -> None:
    names = ["a", "b"]
    digests = {
        digest_of(names, []),
        digest_of(names, ["a"]),
        digest_of(names, ["b"]),
        digest_of(["b", "a"], []),
        digest_of(["a"], []),
    }
    assert len(digests) == 5


def test_a_published_set_survives_encoding() -> None:
    assert records.decoder_of(records.ModelsRecord).decode(records.encode(FIRST)) == FIRST
    assert key_of(FIRST) == f"m/features/{FIRST.digest}".encode()


def test_rows_of_the_wanted_features_are_not_copied() -> None:
    row: list[records.FeatureValue] = [30, "UA", 0.5]
    assert Alignment(SETS, FIRST.names).row(FIRST.digest, row) is row


def test_features_are_found_by_name_and_null_where_a_row_does_not_have_them() -> None:
    assert Alignment(SETS, SECOND.names).row(FIRST.digest, [30, "UA", 0.5]) == [0.5, "UA", None]


def test_a_row_without_known_names_is_no_row() -> None:
    alignment = Alignment(SETS, FIRST.names)
    assert alignment.row("ffffffffffff", [30, "UA", 0.5]) is None
    assert alignment.row(FIRST.digest, [30, "UA"]) is None


def test_a_row_without_a_digest_is_of_the_first_set() -> None:
    assert Alignment(SETS, SECOND.names).row("", [30, "UA", 0.5]) == [0.5, "UA", None]


def test_without_published_names_a_row_must_hold_as_many_values() -> None:
    alignment = Alignment(FeatureSets(), ["a", "b"])
    assert alignment.row("", [1, 2]) == [1, 2]
    assert alignment.row("", [1]) is None


def test_names_that_are_published_later_are_used_from_then_on() -> None:
    sets = FeatureSets()
    alignment = Alignment(sets, SECOND.names)
    sets.note(FIRST.digest)
    assert sets.has_unknown
    assert alignment.row(FIRST.digest, [30, "UA", 0.5]) is None
    sets.learn(FIRST)
    assert alignment.row(FIRST.digest, [30, "UA", 0.5]) == [0.5, "UA", None]


def test_names_that_nobody_published_are_given_up() -> None:
    sets = FeatureSets()
    sets.note("x")
    assert sets.give_up() == ["x"]
    assert sets.give_up() == []


def test_a_digest_depends_on_the_definitions_that_are_known() -> None:
    hour, day = (feature_set("m", ["age", "rate"], [], {"rate": each}) for each in ("hour", "day"))
    assert len({hour.digest, day.digest, feature_set("m", ["age", "rate"], []).digest}) == 3
    assert feature_set("m", ["age"], [], {}).digest == digest_of(["age"], [])


def test_a_feature_is_redefined_if_both_definitions_are_known_and_differ() -> None:
    before = feature_set("m", ["age", "rate", "old"], [], {"rate": "hour", "old": "day"})
    sets = FeatureSets([before, unknown := feature_set("m", ["age", "rate"], [])])
    assert sets.redefined(before.digest, {"rate": "day", "new": "day"}) == ["rate"]
    assert sets.redefined(before.digest, {"rate": "hour"}) == []
    assert [sets.redefined(each, {"rate": "day"}) for each in (unknown.digest, "", "?")] == [[], [], []]


def test_definitions_of_a_digest_are_those_that_were_published() -> None:
    published = feature_set("m", ["km"], [], {"km": "sum over 1 h"})
    sets = FeatureSets([published])
    assert sets.definitions(published.digest) == {"km": "sum over 1 h"}
    assert sets.definitions("unknown") == {}
