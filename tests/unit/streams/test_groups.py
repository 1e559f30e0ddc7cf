import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import faust
import pytest

from services.runtime.settings import Settings
from streams import groups
from streams.groups import COMMIT_SECONDS, FETCH_BYTES_MAX, Group


def group(settings: Settings | None = None, **bounds: Any) -> Group:
    member = Group(settings or Settings(_env_file=None, broker="a:1,b:2"), "scoring", object(), **bounds)  # type: ignore[arg-type]  # the observer is not called
    member.slices(["t", "u"], handle)
    return member


async def handle(_: Any) -> None:
    raise AssertionError("no slice was sent")


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Faust apps that would have run; none connects."""
    found: list[Any] = []

    @contextlib.asynccontextmanager
    async def running(app: Any, **_: Any) -> AsyncIterator[None]:
        found.append(app)
        yield

    monkeypatch.setattr(groups, "faust_app_running", running)
    return found


def run(member: Group) -> None:
    async def block() -> None:
        async with member.running():
            assert not member.assigned
            assert member.committed() == {}
            assert member.failure is None
            assert member.blocked() == []

    asyncio.run(block())


def test_a_group_that_does_not_run_has_nothing_assigned() -> None:
    member = group()
    assert member.name == "driftline.scoring"
    assert not member.assigned
    assert member.failure is None
    assert member.committed() == {}


def test_the_app_has_the_bounds_of_the_settings(apps: list[Any]) -> None:
    settings = Settings(_env_file=None, broker="a:1,b:2", session_timeout_seconds=20, slice_records_max=7)
    run(group(settings))
    (app,) = apps
    conf = app.conf
    assert conf.id == "driftline.scoring"
    assert [str(url) for url in conf.broker] == ["kafka://a:1", "kafka://b:2"]
    assert conf.broker_max_poll_records == 7
    assert conf.consumer_max_fetch_size == FETCH_BYTES_MAX
    assert conf.broker_commit_interval == COMMIT_SECONDS
    assert (conf.broker_session_timeout, conf.broker_heartbeat_interval) == (20, 5)
    assert conf.consumer_auto_offset_reset == "earliest"
    assert not conf.web_enabled
    assert not conf.topic_allow_declare
    assert conf.broker_credentials is None


def test_bounds_of_a_group_take_precedence(apps: list[Any]) -> None:
    run(group(slice_records_max=3))
    assert apps[0].conf.broker_max_poll_records == 3


def test_each_handler_is_an_agent_and_each_revocation_is_told(apps: list[Any]) -> None:
    calls: list[str] = []

    async def let_go() -> None:
        calls.append("let go")

    member = group()
    member.slices(["v"], handle, let_go)
    run(member)
    (app,) = apps
    assert [name for name in app.agents if "slices-" in name] == ["slices-t", "slices-v"]
    asyncio.run(app.let_go())
    assert calls == ["let go"]


def test_a_group_without_topics_is_ready_and_does_not_connect(apps: list[Any]) -> None:
    member = Group(Settings(_env_file=None), "features", object())  # type: ignore[arg-type]  # not called

    async def block() -> None:
        async with member.running():
            assert member.assigned
            assert (member.committed(), member.blocked(), member.failure) == ({}, [], None)

    asyncio.run(block())
    assert apps == []


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_has_the_user_and_tls_where_it_is_set(protocol: str, apps: list[Any]) -> None:
    settings = Settings(
        _env_file=None,
        security_protocol=protocol,
        sasl_username="me",
        sasl_password="s3cret",
    )
    run(group(settings))
    found = apps[0].conf.broker_credentials
    assert isinstance(found, faust.SASLCredentials)
    assert (found.username, found.password) == ("me", "s3cret")
    assert found.protocol.value == protocol


def test_tls_without_a_user_has_a_context(apps: list[Any]) -> None:
    run(group(Settings(_env_file=None, security_protocol="SSL")))
    found = apps[0].conf.broker_credentials
    assert isinstance(found, faust.SSLCredentials)
    assert found.context is not None
