"""Which arm answers which request."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.routing import Routes
from streams.records import Arm


def arm(version, since=0, *, shadow=False):
    return Arm(
        name="s" if shadow else "champion",
        version=version,
        weight=10_000,
        effective_from_ms=since,
        shadow=shadow,
    )


def test_request_gets_the_version_in_effect_at_its_event_time():
    routes = Routes.of([arm(3, 200), arm(2, 100), arm(1, shadow=True)])
    chosen = routes.assign(np.array([99, 100, 199, 200, 10_000]))
    assert [routes.champions[i].version if i >= 0 else None for i in chosen] == [None, 2, 2, 3, 3]


def test_shadows_never_answer():
    routes = Routes.of([arm(1, shadow=True)])
    assert routes.assign(np.array([5])).tolist() == [-1]
    assert [shadow.version for shadow in routes.shadows] == [1]


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=5, unique=True),
    st.lists(st.integers(0, 1200), min_size=1),
)
def test_assignment_does_not_depend_on_what_else_is_in_the_slice(starts, times):
    routes = Routes.of([arm(version, since) for version, since in enumerate(starts)])
    together = routes.assign(np.array(times))
    assert together.tolist() == [int(routes.assign(np.array([time]))[0]) for time in times]
