"""Real servers for tests: each starts with the first test that asks for it, and lasts for the session."""

import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from services.feature_store.typeguard_internals import late_checks
from services.operations.local_servers.supervisor import Supervisor
from services.runtime import thread_count
from services.runtime.settings import Settings
from streams import garbage
from tests import tools
from tests.schema_registry import SchemaRegistry
from tests.servers import Server
from tests.waiting import LIVENESS_SECONDS

garbage.collect_rarely()  # the imports of all tests take a fifth less CPU time
# Before a test imports NumPy or scikit-learn, which read it. The processes of the tests share the cores, and
# threads of OpenMP spin while they wait for each other: on a busy machine two of them take 6.4 s of CPU time
# to fit 100 small trees, one takes 0.1 s.
thread_count.limit()
# No test depends on the machine's speed.
hypothesis.settings.register_profile(
    "driftline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("driftline")

FOLDER = Path(__file__).parent
FIRST = (
    "fault/test_scoring_faults.py",
    "browser",
    "flow/test_demo.py",
    "flow/test_bad_candidates.py",
    "fault",
    "flow",
    "contract",
    "property",
    "unit",
)
"""Files and folders as the pytest processes take them: the longest first, so none ends alone with one, and
the browser on a Kafka that holds no other tests' models, as the dashboard shows so many at most."""
PROCESSES = (
    "scoring",
    "features",
    "drift",
    "learning",
    "archive",
    "retraining",
    "dashboard",
    "skew",
    "alerting",
    "rollout",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests, and with them Feast, which takes 2 s of CPU time less in this way."""
    with late_checks():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files for the processes of pytest-xdist; one alone takes them by their names."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _place(item.path.relative_to(FOLDER).as_posix()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which tools were missing, and how to install them."""
    reasons = [str(report.longrepr) for report in terminalreporter.getreports("skipped")]
    if line := tools.summary(reasons):
        terminalreporter.write_line(line, yellow=True)


def _place(path: str) -> int:
    return next(place for place, first in enumerate(FIRST) if path.startswith(first))


@pytest.fixture(scope="session")
def servers() -> Iterator[Supervisor]:
    """Whatever is started with it ends with the session, also if pytest itself is killed."""
    with Supervisor() as supervisor:
        yield supervisor


@pytest.fixture(scope="session")
def kafka_port() -> int:
    """The port of Kafka."""
    from services.operations.local_servers import ports

    return ports.free_port()


@pytest.fixture(scope="session")
def broker(servers: Supervisor, tmp_path_factory: pytest.TempPathFactory, kafka_port: int) -> Server:
    """A real Kafka, to be killed and started again."""
    from services.operations.local_servers import kafka

    folder = tmp_path_factory.mktemp("kafka")
    return Server(
        servers,
        lambda: kafka.start(servers, folder, kafka_port),
    )


@pytest.fixture(scope="session")
def kafka(broker: Server, kafka_port: int) -> str:
    """The address of a real Kafka without any topics: ``host:port``."""
    return f"127.0.0.1:{kafka_port}"


@pytest.fixture(scope="session")
def valkey(servers: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a real Valkey, empty at first: ``redis://host:port/0``."""
    from services.operations.local_servers import ports, valkey

    port = ports.free_port()
    child = valkey.start(servers, tmp_path_factory.mktemp("valkey"), port)
    servers.wait_ready(child, seconds=LIVENESS_SECONDS)
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def mlflow(servers: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a real MLflow server: ``http://host:port``."""
    from services.operations.local_servers import mlflow, ports

    port = ports.free_port()
    child = mlflow.start(servers, tmp_path_factory.mktemp("mlflow"), port)
    servers.wait_ready(child, seconds=LIVENESS_SECONDS)
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def schema_registry(servers: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> SchemaRegistry:
    """A real schema registry, empty at first, to be frozen."""
    from services.operations.local_servers import ports

    return SchemaRegistry(servers, tmp_path_factory.mktemp("schema-registry"), ports.free_port())


@pytest.fixture(scope="session")
def http_ports() -> dict[str, int]:
    """A free port for each process, under the names of the settings."""
    from services.operations.local_servers import ports

    return {f"{process}_port": ports.free_port() for process in PROCESSES}


@pytest.fixture
def settings(kafka: str, valkey: str, mlflow: str, http_ports: dict[str, int], tmp_path: Path) -> Settings:
    """Settings for the session's servers, with a home and HTTP ports of the test's own."""
    changes = {"broker": kafka, "redis_url": valkey, "mlflow_uri": mlflow, "home": tmp_path / "home"}
    return Settings().model_copy(update={**changes, **http_ports})


@pytest.fixture
def unique_name() -> str:
    """A name that no other test has: fit for a model, and as a prefix of topics, groups and keys."""
    return f"t{uuid.uuid4().hex[:12]}"
