"""Clients as the settings say. None of these connects."""

from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from services.runtime import redis_clients
from services.runtime.settings import Settings


def options(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.connection_pool.connection_kwargs
    return found


def test_an_asynchronous_client_speaks_the_protocol_that_the_pipeline_reads() -> None:
    client = redis_clients.connect(Settings(redis_url="redis://store:7000/3"))
    assert isinstance(client, redis.asyncio.Redis)
    assert {key: options(client)[key] for key in ("host", "port", "db", "protocol")} == {
        "host": "store",
        "port": 7000,
        "db": 3,
        "protocol": 2,
    }


@pytest.mark.parametrize("connect", [redis_clients.connect, redis_clients.connect_blocking])
def test_every_client_has_bounds_that_its_user_may_change(connect: Any) -> None:
    settings = Settings(redis_url="redis://store")
    assert options(connect(settings))["socket_timeout"] == redis_clients.REPLY_SECONDS_MAX
    assert options(connect(settings))["socket_connect_timeout"] == redis_clients.CONNECT_SECONDS_MAX
    assert options(connect(settings, socket_timeout=60))["socket_timeout"] == 60


def test_a_cluster_has_a_client_of_its_own() -> None:
    client = redis_clients.connect(Settings(redis_url="redis://store", redis_cluster=True))
    assert isinstance(client, redis.asyncio.RedisCluster)


def test_files_of_certificates_are_only_given_to_tls(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    encrypted = options(redis_clients.connect_blocking(Settings(redis_url="rediss://s", redis_cafile=file)))
    assert encrypted["ssl_ca_certs"] == str(file)
    assert "ssl_certfile" not in encrypted
    plain = redis_clients.connect_blocking(Settings(redis_url="redis://s", redis_cafile=file))
    assert "ssl_ca_certs" not in options(plain)
