"""Which segments are monitored, and to which of them a row belongs."""

import msgspec

from services.monitoring import segments
from services.monitoring.segments import SegmentMatcher, segments_of
from services.runtime.declaration import Monitoring
from streams.records import FeatureReference, Reference
from tests.unit.drift import scenario

MONITORING = Monitoring(segments=("colour",))


def test_the_most_frequent_values_of_declared_features_are_segments() -> None:
    names = [f"c{number:02}" for number in range(30)]
    reference = FeatureReference(feature="c", counts=[*range(30)], missing=0, categories=names)
    found = segments_of([reference], ["c"])
    assert list(found) == [f"c=c{number:02}" for number in range(29, 29 - segments.SEGMENTS_MAX, -1)]
    assert found["c=c29"] == (0, "c29", 29)


def test_declared_features_share_the_limit_and_numbers_have_no_segments() -> None:
    names = [f"v{number:02}" for number in range(30)]
    references = [
        FeatureReference(feature=name, counts=[1] * 30, missing=0, categories=names) for name in ("a", "b")
    ]
    numeric = FeatureReference(feature="x", counts=[1, 1], missing=0, edges=[0.0])
    found = segments_of([*references, numeric], ["a", "b"])
    assert len(found) == segments.SEGMENTS_MAX
    assert {segment.feature for segment in found.values()} == {0, 1}
    assert segments_of([numeric], ["x"]) == {}


def test_a_row_belongs_to_the_segment_of_its_value() -> None:
    matcher = SegmentMatcher(scenario.reference(), MONITORING)
    assert matcher.match([0.5, "red"]) == ["colour=red"]
    assert matcher.match([0.5, "unknown"]) == []
    assert matcher.match([0.5, None]) == []


def test_a_row_with_other_features_belongs_to_no_segment() -> None:
    assert SegmentMatcher(scenario.reference(), MONITORING).match(["red"]) == []


def test_without_a_reference_or_a_declaration_there_are_no_segments() -> None:
    assert SegmentMatcher(None, MONITORING).match([0.5, "red"]) == []
    assert SegmentMatcher(scenario.reference(), Monitoring()).match([0.5, "red"]) == []


def test_values_match_by_their_text() -> None:
    reference = FeatureReference(feature="n", counts=[1], missing=0, categories=["1"])
    known: Reference = msgspec.structs.replace(scenario.reference(), features=[reference])
    assert SegmentMatcher(known, Monitoring(segments=("n",))).match([1]) == ["n=1"]
