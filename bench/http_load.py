"""Repeats one HTTP POST on keep-alive connections: a closed loop, in a separate process.

Uses plain sockets in uvloop, so that its own cost does not distort the result. Arguments: host, port, path, a
file with the body, connections, seconds. Prints requests per second, latencies and the last response, as
JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"
CONNECT_SECONDS_MAX = 10.0


class Connection(asyncio.Protocol):
    """Sends one request at a time."""

    def __init__(self, request: bytes) -> None:
        """Take the bytes of the request."""
        self.milliseconds: list[float] = []
        self.response = b""
        self.failure = ""
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._received = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next request when the response is complete."""
        self._received += data
        head, found, body = self._received.partition(END_OF_HEAD)
        if not found or len(body) < _length(head):
            return
        self.milliseconds.append((time.perf_counter() - self._sent) * 1000)
        self._received = b""
        self.response = body
        if not head.startswith(b"HTTP/1.1 200"):
            self.failure = (head + END_OF_HEAD + body).decode()
            self.stop()
            return
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Record the failure: only `stop` closes a connection."""
        if not self.ended.done():
            self.failure = self.failure or f"the connection was lost: {error!r}"
            self.ended.set_result(None)

    def stop(self) -> None:
        """Close the connection without waiting for the response."""
        if not self.ended.done():
            self.ended.set_result(None)
        assert self._transport is not None
        self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def _length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.index(LENGTH) + len(LENGTH)
    return int(lowered[start:].split(b"\r\n", 1)[0])


async def run(host: str, port: int, request: bytes, connections: int, seconds: float) -> dict[str, object]:
    """Send requests for ``seconds``; return the figures."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    opening = (loop.create_connection(lambda: Connection(request), host, port) for _ in range(connections))
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        opened = [protocol for _, protocol in await asyncio.gather(*opening)]
    await asyncio.wait([connection.ended for connection in opened], timeout=seconds)
    took = time.perf_counter() - began
    for connection in opened:
        connection.stop()
    if failure := next((connection.failure for connection in opened if connection.failure), ""):
        sys.exit(failure)
    milliseconds = [each for connection in opened for each in connection.milliseconds]
    if not milliseconds:
        sys.exit("no response arrived")
    return {
        "requests_per_second": len(milliseconds) / took,
        "p50_ms": float(np.percentile(milliseconds, 50)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "response": opened[0].response.decode(),
    }


def main() -> None:
    """Send requests and print the figures."""
    host, port, path, body_file, connections, seconds = sys.argv[1:]
    body = Path(body_file).read_bytes()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    result = uvloop.run(run(host, int(port), head.encode() + body, int(connections), float(seconds)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
