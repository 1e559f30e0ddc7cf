"""An archiver that fails, or whose declarations change, is followed by another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.archive import archiver, process
from services.archive.process import ArchiveSessions
from services.feature_store import plan_cache, repository
from services.runtime import session_failures
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.settings import ROOT, Settings
from services.runtime.web import server
from tests.waiting import LIVENESS_SECONDS


class Producer:
    def __init__(self, _options: object) -> None: ...

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Producer"]:
        yield self


@contextlib.asynccontextmanager
async def not_served(*_: object) -> AsyncIterator[None]:
    yield


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BatchProducer", Producer)
    monkeypatch.setattr(archiver, "connect", lambda _: None)
    monkeypatch.setattr(server, "serve_in_loop", not_served)
    monkeypatch.setattr(session_failures, "RETRY_SECONDS_MIN", 0.0)
    monkeypatch.setattr(process, "REFRESH_SECONDS", 0.001)


def test_an_error_is_shown_until_the_next_session_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopping, reasons = asyncio.Event(), []

    class Archiver:
        def __init__(self, *_: object) -> None:
            reasons.append(sessions.not_ready())

        def not_ready(self) -> None: ...

        async def run(self, _over: asyncio.Event) -> None:
            assert sessions.not_ready() is None
            if len(reasons) == 3:
                stopping.set()
                return
            raise (AssertionError("not assigned") if len(reasons) == 1 else OSError("the disk is full"))

    monkeypatch.setattr(archiver, "Archiver", Archiver)
    sessions = ArchiveSessions(Settings(models=tmp_path))
    asyncio.run(sessions.run(stopping))
    first, second, third = reasons
    assert first == "starting"
    assert second is not None
    assert second.startswith("defect: AssertionError: not assigned at tests/unit/archive/test_process.py")
    assert third == "OSError: the disk is full"


def test_a_new_declaration_is_archived_without_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopping, archived = asyncio.Event(), []

    class Archiver:
        def __init__(self, _settings: Settings, tables: dict[str, Any], *_: object) -> None:
            archived.append("driftline.predictions.arrival_delay" in tables)

        def not_ready(self) -> None: ...

        async def run(self, over: asyncio.Event) -> None:
            if len(archived) == 2:
                stopping.set()
            else:
                folder = tmp_path / "arrival_delay"
                folder.mkdir()
                (folder / "model.yaml").write_text((ROOT / "models/arrival_delay/model.yaml").read_text())
            await asyncio.wait_for(over.wait(), LIVENESS_SECONDS)

    monkeypatch.setattr(archiver, "Archiver", Archiver)
    asyncio.run(ArchiveSessions(Settings(models=tmp_path)).run(stopping))
    assert archived == [False, True]


def test_a_source_topic_of_a_new_view_is_archived_without_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopping, archived = asyncio.Event(), []
    settings = Settings(home=tmp_path, models=tmp_path)
    plan: Any = SimpleNamespace(by_topic=lambda: {"weather": ()})

    class Archiver:
        def __init__(self, _settings: Settings, tables: dict[str, Any], *_: object) -> None:
            archived.append("weather" in tables)

        def not_ready(self) -> None: ...

        async def run(self, over: asyncio.Event) -> None:
            if len(archived) == 2:
                stopping.set()
            else:
                monkeypatch.setattr(repository, "load", lambda _: plan)
                plan_cache.registry_path(settings).write_text("applied")
            await asyncio.wait_for(over.wait(), LIVENESS_SECONDS)

    monkeypatch.setattr(archiver, "Archiver", Archiver)
    asyncio.run(ArchiveSessions(settings).run(stopping))
    assert archived == [False, True]


def test_an_error_of_the_watch_ends_the_session_and_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopping, reasons = asyncio.Event(), []

    class Archiver:
        def __init__(self, *_: object) -> None:
            reasons.append(sessions.not_ready())

        def not_ready(self) -> None: ...

        async def run(self, over: asyncio.Event) -> None:
            if len(reasons) == 2:
                stopping.set()
            await asyncio.wait_for(over.wait(), LIVENESS_SECONDS)

    def fails(_folder: DeclarationFolder) -> set[str]:
        raise PermissionError("models")

    monkeypatch.setattr(archiver, "Archiver", Archiver)
    sessions = ArchiveSessions(Settings(models=tmp_path))
    monkeypatch.setattr(DeclarationFolder, "refresh", fails)
    with capture_logs() as logs:
        asyncio.run(sessions.run(stopping))
    assert reasons == ["starting", "PermissionError: models"]
    assert [each["event"] for each in logs] == ["archive.watch_failed", "session.outage"]


def test_an_error_of_the_watch_is_logged_although_the_archiver_fails_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopping = asyncio.Event()

    class Archiver:
        def __init__(self, *_: object) -> None: ...

        def not_ready(self) -> None: ...

        async def run(self, over: asyncio.Event) -> None:
            await asyncio.wait_for(over.wait(), LIVENESS_SECONDS)
            stopping.set()
            raise OSError("the disk is full")

    def fails(_folder: DeclarationFolder) -> set[str]:
        raise PermissionError("models")

    monkeypatch.setattr(archiver, "Archiver", Archiver)
    sessions = ArchiveSessions(Settings(models=tmp_path))
    monkeypatch.setattr(DeclarationFolder, "refresh", fails)
    with capture_logs() as logs:
        asyncio.run(sessions.run(stopping))
    assert [each["error"] for each in logs] == ["PermissionError('models')", "OSError('the disk is full')"]
