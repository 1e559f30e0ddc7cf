"""The pipeline on a real Valkey: replies never get mixed up, a dead connection is replaced."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import redis.asyncio
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.operations.local_servers import ports
from services.runtime import redis_clients
from services.runtime.redis_commands import encode
from services.runtime.redis_pipeline import AsyncPipeline
from tests.waiting import LIVENESS_SECONDS

LOOPS = {"asyncio": None, "uvloop": uvloop.new_event_loop}
Exchange = Callable[[list[bytes]], list[Any]]


def echo(text: str) -> bytes:
    return encode(("ECHO", text))


def connected(url: str) -> AsyncPipeline:
    return AsyncPipeline(redis.asyncio.Redis.from_url(url, protocol=2))


@pytest.fixture(params=LOOPS)
def exchange(request: pytest.FixtureRequest, valkey: str) -> Iterator[Exchange]:
    yield from opened(request.param, valkey)


def opened(kind: str, url: str) -> Iterator[Exchange]:
    """Yield a pipeline's exchange as a function that blocks."""
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        pipeline = connected(url)
        yield lambda commands: runner.run(pipeline.exchange(commands))
        runner.run(pipeline.close())


def test_replies_come_in_order_however_large(exchange: Exchange) -> None:
    texts = [str(number) * 1000 for number in range(500)]
    assert exchange([echo(text) for text in texts]) == [text.encode() for text in texts]
    assert exchange([]) == []
    assert exchange([echo("end")]) == [b"end"]


def test_an_error_of_the_store_is_raised_and_the_next_replies_are_the_next_ones(exchange: Exchange) -> None:
    with pytest.raises(ResponseError, match="unknown command"):
        exchange([echo("a"), encode(("NONE",)), echo("b")])
    assert exchange([echo("c")]) == [b"c"]


def test_a_connection_that_died_is_replaced(exchange: Exchange, valkey: str) -> None:
    assert exchange([echo("before")]) == [b"before"]
    with redis.Redis.from_url(valkey) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert exchange([echo("after")]) == [b"after"]


def test_a_store_that_closes_every_connection_is_an_error_after_two_attempts(exchange: Exchange) -> None:
    with pytest.raises(RedisConnectionError, match="lost"):
        exchange([encode(("QUIT",)), echo("never")])
    assert exchange([echo("after")]) == [b"after"]


def test_what_is_sent_once_is_not_repeated_and_errors_stand_in_their_places(valkey: str) -> None:
    """A lost command may have been executed: the caller gets the error; the next exchange reconnects."""

    async def send() -> None:
        pipeline = connected(valkey)
        first, error, last = await pipeline.exchange_once([echo("a"), encode(("NONE",)), echo("b")])
        assert (first, last) == (b"a", b"b")
        assert isinstance(error, ResponseError)
        count = encode(("INCR", "sent once"))
        with pytest.raises(RedisConnectionError, match="lost"):
            await pipeline.exchange_once([count, encode(("QUIT",)), echo("never")])
        assert await pipeline.exchange_once([count, encode(("DEL", "sent once"))]) == [2, 1]
        await pipeline.close()

    asyncio.run(send())


@pytest.mark.parametrize("kind", LOOPS)
def test_a_silent_store_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_clients, "REPLY_SECONDS_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                while sent := connection.recv(1 << 16):  # redis-py introduces itself
                    if b"ECHO" not in sent:
                        connection.sendall(b"+OK\r\n" * sent.count(b"*"))

        thread = threading.Thread(target=greet)
        thread.start()
        for exchange in opened(kind, f"redis://127.0.0.1:{server.getsockname()[1]}/0"):
            with pytest.raises(RedisTimeoutError, match=r"no reply within 0\.2 s"):
                exchange([echo("anyone?")])
        thread.join(LIVENESS_SECONDS)
    assert not thread.is_alive()


def test_tasks_share_a_connection_and_one_that_gives_up_takes_nobody_elses_replies(valkey: str) -> None:
    async def crowd() -> list[Any]:
        pipeline = connected(valkey)
        await pipeline.exchange([echo("open")])
        tasks = [asyncio.create_task(pipeline.exchange([echo(f"{n}a"), echo(f"{n}b")])) for n in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        server_reader = await asyncio.gather(*tasks, return_exceptions=True)
        await pipeline.close()
        return server_reader

    for number, answer in enumerate(asyncio.run(crowd())):
        if number % 3:
            assert answer == [b"%da" % number, b"%db" % number]
        else:
            assert isinstance(answer, asyncio.CancelledError)


@pytest.fixture(scope="module")
def encrypted(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A TLS proxy in front of the same server, because Valkey from packages has no TLS."""
    folder = tmp_path_factory.mktemp("tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(valkey)
        server_reader, server_writer = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer), return_exceptions=True)

    loop, port = asyncio.new_event_loop(), ports.free_port()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    starting = asyncio.start_server(forward, "127.0.0.1", port, ssl=context)
    asyncio.run_coroutine_threadsafe(starting, loop).result(LIVENESS_SECONDS)
    yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder / 'certificate.pem'}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(LIVENESS_SECONDS)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(signed.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@pytest.mark.parametrize("kind", LOOPS)
def test_replies_come_through_tls(kind: str, encrypted: str) -> None:
    texts = [str(number) * 5000 for number in range(100)]
    for exchange in opened(kind, encrypted):
        for _ in range(3):
            assert exchange([echo(text) for text in texts]) == [text.encode() for text in texts]


@pytest.mark.parametrize("kind", LOOPS)
def test_a_server_of_an_unknown_certificate_is_refused(kind: str, encrypted: str) -> None:
    for exchange in opened(kind, encrypted.partition("?")[0]):
        with pytest.raises(RedisConnectionError, match="certificate"):
            exchange([echo("secret")])
