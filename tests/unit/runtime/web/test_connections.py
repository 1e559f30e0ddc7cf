"""A connection must send its headers in time, and there is a limit to their number.

The time is advanced by hand: no assertion depends on how fast the client or the server is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from services.runtime.web import connections, server
from services.runtime.web.connections import HEADER_SECONDS_MAX, BoundedProtocol
from tests.waiting import LIVENESS_SECONDS

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


class HandMovedTime:
    """The running event loop, whose timers run when a test advances the time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now_seconds = 0.0
        self._timers: list[tuple[float, asyncio.TimerHandle, Callable[[], None]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        at = self._now_seconds + seconds
        handle = asyncio.TimerHandle(at, call, (), self._loop)
        self._timers.append((at, handle, call))
        return handle

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what is due."""
        self._now_seconds += seconds
        due = [timer for timer in self._timers if timer[0] <= self._now_seconds]
        self._timers = [timer for timer in self._timers if timer[0] > self._now_seconds]
        for _, handle, call in due:
            if not handle.cancelled():
                call()


class Client:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def status(self) -> bytes:
        """Return the status of the next response, which is read to its end."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await self._reader.readexactly(int(length.split(b":")[1]))
        return head.split(b" ", 2)[1]

    async def end(self) -> bytes:
        """Wait until the server has closed the connection; return what it sent before."""
        try:
            return await self._reader.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._writer.close()


class Web:
    """A server whose time is moved by hand, and its clients."""

    def __init__(self) -> None:
        self.time = HandMovedTime()
        self.state = ServerState()
        config = uvicorn.Config(
            server.application(lambda: None),
            http=BoundedProtocol,
            lifespan="off",
            timeout_keep_alive=100 * int(HEADER_SECONDS_MAX),  # another limit, which must not end these tests
        )
        config.load()
        self._protocol = lambda: BoundedProtocol(config, self.state, {}, _loop=self.time)  # type: ignore[arg-type]  # as far as it is used
        self._clients: list[Client] = []

    async def serve(self, use: Callable[["Web"], Awaitable[None]]) -> None:
        listener = await asyncio.get_running_loop().create_server(self._protocol, "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        async with listener:
            await use(self)
            for client in self._clients:
                client.close()

    async def connect(self) -> Client:
        """Return a connection that the server has accepted."""
        before = len(self.state.connections)
        client = await self.connect_unseen()
        while len(self.state.connections) == before:  # noqa: ASYNC110  # accepting has no event
            await asyncio.sleep(0)
        return client

    async def connect_unseen(self) -> Client:
        """Return a connection that the server may refuse."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port))
        self._clients.append(client)
        return client


def run(use: Callable[[Web], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIVENESS_SECONDS):
            await Web().serve(use)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # whose timers can be taken over
        runner.run(main())


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST[:-2]])
def test_a_connection_whose_headers_do_not_end_is_closed(sent: bytes) -> None:
    async def use(web: Web) -> None:
        client = await web.connect()
        client.send(sent)
        web.time.advance(HEADER_SECONDS_MAX)
        assert await client.end() == b""

    run(use)


def test_a_further_request_must_send_its_headers_in_time_as_well() -> None:
    async def use(web: Web) -> None:
        client = await web.connect()
        client.send(REQUEST)
        assert await client.status() == b"200"
        web.time.advance(HEADER_SECONDS_MAX)  # the limit of the first request's headers no longer applies
        client.send(REQUEST + REQUEST[:-2])
        assert await client.status() == b"200"
        web.time.advance(HEADER_SECONDS_MAX)
        assert await client.end() == b""

    run(use)


def test_a_slow_body_is_not_closed_by_the_limit_of_the_headers() -> None:
    """The limit of the headers passes before the body arrives."""

    async def use(web: Web) -> None:
        slow, idle = await web.connect(), await web.connect()
        slow.send(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        assert await slow.status() == b"404"
        web.time.advance(HEADER_SECONDS_MAX)
        assert await idle.end() == b"", "the limit has passed"
        slow.send(b"{}" + REQUEST)
        assert await slow.status() == b"200"

    run(use)


def test_a_connection_beyond_the_limit_is_closed_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(web: Web) -> None:
        first = await web.connect()
        first.send(REQUEST)
        assert await first.status() == b"200"
        monkeypatch.setattr(connections, "CONNECTIONS_MAX", 1)
        second = await web.connect_unseen()
        second.send(REQUEST)
        assert await second.end() == b""
        first.send(REQUEST)
        assert await first.status() == b"200"

    run(use)
