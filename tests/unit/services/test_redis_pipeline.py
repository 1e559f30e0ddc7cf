"""Both pipelines on a real Valkey: replies never get mixed up, a dead connection is replaced."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services import redis_pipeline
from services.redis_pipeline import AsyncPipeline, BlockingPipeline

Exchange = Callable[[list[bytes], int], list[Any]]


def echo(text: str) -> bytes:
    return b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(text), text.encode())


def asynchronous(url: str) -> AsyncPipeline:
    return AsyncPipeline(redis.asyncio.Redis.from_url(url, protocol=2))


def blocking(url: str) -> BlockingPipeline:
    return BlockingPipeline(redis.Redis.from_url(url, protocol=2))


@pytest.fixture(params=["asynchronous", "blocking"])
def exchange(request: pytest.FixtureRequest, valkey: str) -> Iterator[Exchange]:
    yield from opened(request.param, valkey)


def opened(kind: str, url: str) -> Iterator[Exchange]:
    """Give both kinds the same form."""
    if kind == "blocking":
        pipeline = blocking(url)
        yield pipeline.exchange
        pipeline.close()
        return
    with asyncio.Runner() as runner:
        other = asynchronous(url)
        yield lambda commands, replies: runner.run(other.exchange(commands, replies))
        runner.run(other.close())


def test_replies_come_in_order_however_large(exchange: Exchange) -> None:
    texts = [str(number) * 1000 for number in range(500)]
    assert exchange([echo(text) for text in texts], 500) == [text.encode() for text in texts]
    assert exchange([], 0) == []
    assert exchange([echo("end")], 1) == [b"end"]


def test_an_error_of_the_store_is_raised_and_the_next_replies_are_the_next_ones(exchange: Exchange) -> None:
    with pytest.raises(ResponseError, match="unknown command"):
        exchange([echo("a"), b"*1\r\n$4\r\nNONE\r\n", echo("b")], 3)
    assert exchange([echo("c")], 1) == [b"c"]


def test_a_connection_that_died_is_replaced(exchange: Exchange, valkey: str) -> None:
    assert exchange([echo("before")], 1) == [b"before"]
    with redis.Redis.from_url(valkey) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert exchange([echo("after")], 1) == [b"after"]


def test_a_store_that_closes_every_connection_is_an_error_after_two_attempts(exchange: Exchange) -> None:
    with pytest.raises(RedisConnectionError, match="lost"):
        exchange([b"*1\r\n$4\r\nQUIT\r\n", echo("never")], 2)
    assert exchange([echo("after")], 1) == [b"after"]


@pytest.mark.parametrize("kind", ["asynchronous", "blocking"])
def test_a_silent_store_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_pipeline, "REPLY_SECONDS_MAX", 0.2)
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
                exchange([echo("anyone?")], 1)
        thread.join(5)
    assert not thread.is_alive()


def test_tasks_share_a_connection_and_one_that_gives_up_takes_nobody_elses_replies(valkey: str) -> None:
    async def crowd() -> list[Any]:
        pipeline = asynchronous(valkey)
        await pipeline.exchange([echo("open")], 1)
        tasks = [
            asyncio.create_task(pipeline.exchange([echo(f"{n}a"), echo(f"{n}b")], 2)) for n in range(200)
        ]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await pipeline.close()
        return answers

    for number, answer in enumerate(asyncio.run(crowd())):
        if number % 3:
            assert answer == [b"%da" % number, b"%db" % number]
        else:
            assert isinstance(answer, asyncio.CancelledError)


def test_threads_take_turns(valkey: str) -> None:
    pipeline = blocking(valkey)

    def ask(number: int) -> bool:
        return pipeline.exchange([echo(f"{number}a"), echo(f"{number}b")], 2) == [
            b"%da" % number,
            b"%db" % number,
        ]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(400)))
    pipeline.close()
