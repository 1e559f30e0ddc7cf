"""What an operator asks for, and the arms that come of it."""

import pytest

from services.model_registry import traffic_split
from services.model_registry.traffic_split import ShareError
from services.operations.models import arm_changes
from services.operations.models.arm_changes import ChangeError
from services.runtime import declaration_file
from services.runtime.declaration import FILE
from streams.records import Arm, ModelChanged, Reference

NOW_MS = 1_767_283_200_000
SCHEMA = """
name: m
owner: a@b.example
task: regression
request:
  topic: r
  id: id
  event_time: at
  schema: {id: string, at: timestamp, carrier: string, hour: int, delay: float, rainy: bool}
features: {service: s}
label:
  {topic: l, id: id, event_time: at, value: x, horizon_hours: 1,
   schema: {id: string, at: timestamp, x: float}}
"""


def champion(version=1, **changed):
    return Arm(name="champion", version=version, weight=10_000, **changed)


@pytest.fixture
def declaration(tmp_path):
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / FILE
    path.write_text(SCHEMA, encoding="utf-8")
    return declaration_file.load_named(path)


@pytest.mark.parametrize(
    ("text", "weight"), [("500", 500), ("5%", 500), ("0.25%", 25), ("0.5%", 50), ("100%", 10_000)]
)
def test_share_is_in_ten_thousandths_or_percent(text, weight):
    assert arm_changes.parse_share(text) == weight


@pytest.mark.parametrize("text", ["", "five", "-5", "1.5", "0.001%", "10001", "101%"])
def test_other_shares_are_refused_with_the_text(text):
    with pytest.raises(ChangeError, match="share"):
        arm_changes.parse_share(text)


def test_segment_has_the_types_of_the_schema(declaration):
    conditions = ["carrier=UA,AA", "hour=7", "delay=1.5", "rainy=true"]
    assert arm_changes.parse_segment(declaration, conditions) == {
        "carrier": ["UA", "AA"],
        "hour": [7],
        "delay": [1.5],
        "rainy": [True],
    }


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("carrier", "write field=value"),
        ("airline=UA", "no field 'airline'; their fields: id"),
        ("hour=seven", "not a valid int"),
        ("rainy=yes", "not a valid bool"),
        ("at=2026-01-01T00:00:00Z", "cannot use timestamps"),
    ],
)
def test_segment_that_no_request_could_be_in_is_refused(declaration, condition, said):
    with pytest.raises(ChangeError, match=said):
        arm_changes.parse_segment(declaration, [condition])


def test_time_needs_an_offset():
    assert arm_changes.parse_time_ms("2026-01-01T17:00:00+01:00") == NOW_MS
    for text in ("2026-01-01T16:00:00", "tomorrow"):
        with pytest.raises(ChangeError, match="with an offset"):
            arm_changes.parse_time_ms(text)


def test_first_champion_answers_all_and_a_later_one_from_now_on():
    first = arm_changes.with_champion([], 1, from_ms=None, now_ms=NOW_MS)
    assert first == [champion(1)]
    assert arm_changes.with_champion(first, 2, from_ms=None, now_ms=NOW_MS) == [
        champion(1),
        champion(2, effective_from_ms=NOW_MS),
    ]


def test_end_gives_back_what_the_arm_has_in_every_segment():
    arms = arm_changes.with_share([champion()], "new", 2, 1000, from_ms=NOW_MS, segment={})
    arms = arm_changes.with_share(arms, "new", 3, 2000, from_ms=NOW_MS, segment={"carrier": ["UA"]})
    arms = arm_changes.without_arm(arms, "new", from_ms=NOW_MS + 5)
    assert [arm.weight for arm in arms if arm.name == "new" and arm.effective_from_ms > NOW_MS] == [0, 0]
    assert traffic_split.layout(
        [arm for arm in arms if arm.effective_from_ms > NOW_MS and not arm.segment]
    ) == {
        "new": [],
        "champion": [(0, 10_000)],
    }
    with pytest.raises(ChangeError, match="no arm 'new' has a share"):
        arm_changes.without_arm(arms, "new", from_ms=NOW_MS + 6)
    with pytest.raises(ChangeError, match="the champion cannot end"):
        arm_changes.without_arm(arms, "champion", from_ms=NOW_MS)


def test_change_before_one_that_is_planned_is_refused():
    arms = arm_changes.with_champion([champion()], 2, from_ms=NOW_MS + 1000, now_ms=NOW_MS)
    with pytest.raises(
        ShareError, match="a change of champion is planned for 2026-01-01T16:00:01Z: give --from"
    ):
        arm_changes.with_share(arms, "new", 3, 1000, from_ms=NOW_MS, segment={})
    arm_changes.with_share(arms, "new", 3, 1000, from_ms=NOW_MS + 1000, segment={})


def test_shadow_comes_changes_its_version_and_goes():
    arms = arm_changes.with_shadow([champion()], "quiet", 2, now_ms=NOW_MS)
    arms = arm_changes.with_shadow(arms, "quiet", 3, now_ms=NOW_MS)
    assert [(arm.version, arm.weight) for arm in arms if arm.shadow] == [(3, 0)]
    assert arm_changes.without_shadow(arms, "quiet") == [champion()]
    with pytest.raises(ChangeError, match="there is no shadow loud; known arms: champion, quiet"):
        arm_changes.without_shadow(arms, "loud")
    with pytest.raises(ChangeError, match="is an arm that scores requests"):
        arm_changes.with_shadow(arms, "champion", 2, now_ms=NOW_MS)


def test_record_keeps_what_is_not_changed_and_its_time_does_not_go_back():
    """Drift finds the champion's reference and retraining its request in the latest record alone."""
    reference = Reference(version=1, features=[], score=None, log_loss=0.5)
    latest = ModelChanged(
        model="m", arms=[], changed_at_ms=NOW_MS, reason="drift", request_id="r", reference=reference
    )
    made = arm_changes.make_change("m", latest, [champion()], reason="by hand", from_ms=5, now_ms=NOW_MS + 1)
    assert (made.request_id, made.reference) == ("r", reference)
    assert (made.changed_at_ms, made.reason) == (NOW_MS, "by hand")


def test_lines_tell_share_time_and_segment():
    arms = arm_changes.with_share(
        [champion()], "new", 2, 1000, from_ms=NOW_MS, segment={"carrier": ["UA", "AA"]}
    )
    arms = arm_changes.with_shadow(arms, "quiet", 3, now_ms=NOW_MS)
    assert arm_changes.format_arms(arms) == [
        "ARM       VERSION  SHARE   FROM                  SEGMENT",
        "champion  1        100%    the beginning         -",
        "new       2        10%     2026-01-01T16:00:00Z  carrier=UA,AA",
        "quiet     3        shadow  2026-01-01T16:00:00Z  -",
    ]
