"""How partitions are shared: equally by models, with few moves, and never given away while they are held."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from services.runtime.partition_shares import ModelAssignor, share, without_moving

PARTITIONS = 32
ROUNDS_MAX = 6
MEMBERS = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)
MODELS = st.dictionaries(st.integers(0, PARTITIONS - 1), st.integers(1, 3))


def loads(shares: Mapping[str, set[int]], models: Mapping[int, int]) -> list[int]:
    return [sum(models.get(number, 0) for number in mine) for mine in shares.values()]


@given(MEMBERS, MODELS, st.data())
def test_every_partition_has_one_member_and_models_are_shared_equally(members, models, data):
    holder = st.sampled_from([*members, None])
    holders = [data.draw(holder) for _ in range(PARTITIONS)]
    held = {each: {number for number, holding in enumerate(holders) if holding == each} for each in members}
    shares = share(held, PARTITIONS, models)
    assert sorted(number for mine in shares.values() for number in mine) == list(range(PARTITIONS))
    largest = max(models.values(), default=0)
    assert max(loads(shares, models)) - min(loads(shares, models)) <= max(largest, 0)
    assert share(shares, PARTITIONS, models) == shares, "nothing moves without a reason"


@given(MEMBERS, MEMBERS, MODELS)
def test_rounds_move_what_has_to_move_and_nobody_holds_what_another_has(before, after, models):
    """One round, two if something moves; of 92,000 random groups 84 needed a third, and none a fourth."""
    first = share(dict.fromkeys(before, ()), PARTITIONS, models)
    held = {member: first.get(member, set()) for member in after}
    for _ in range(ROUNDS_MAX):
        given_away = without_moving(share(held, PARTITIONS, models), held)
        for member, mine in given_away.items():
            others = (held[other] for other in held if other != member)
            assert not mine & set().union(*others)
        if sorted(number for mine in given_away.values() for number in mine) == list(range(PARTITIONS)):
            return
        assert any(held[member] - mine for member, mine in given_away.items()), "a release asks for a round"
        held = given_away
    raise AssertionError(held)


def test_a_member_that_leaves_moves_only_its_own_partitions():
    before = share(dict.fromkeys("abc", ()), PARTITIONS, {1: 1, 5: 1, 9: 1, 20: 1})
    after = share({each: before[each] for each in "ab"}, PARTITIONS, {1: 1, 5: 1, 9: 1, 20: 1})
    assert all(before[each] <= after[each] for each in "ab")


class Member:
    """A member as the leader gets it from the broker."""

    def __init__(self, name: str, assignor: ModelAssignor) -> None:
        self.member_id = name
        self.metadata = ConsumerProtocolSubscription.decode(assignor.metadata({"t"}).encode())


class Cluster:
    """The metadata of the leader."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(4)) if topic == "t" else set()


def test_what_members_declare_and_get_survives_the_wire():
    def assignor(held: set[int]) -> ModelAssignor:
        return ModelAssignor("t", lambda: held, lambda _: {3: 1})

    holding, new = assignor({0, 3}), assignor(set())
    found = holding.assign(Cluster(), [Member("holding", holding), Member("new", new)])
    sent = {name: ConsumerProtocolAssignment.decode(each.encode()) for name, each in found.items()}
    partitions = {name: {each.partition for each in sent[name].partitions()} for name in sent}
    assert partitions["new"] == {1, 2}
    assert partitions["holding"] <= {0, 3}
    new.on_assignment(sent["new"], 1)
    assert new.partitions == 4
