"""The jars of Apache Kafka: downloaded once by jgo, checked against pinned hashes, paths cached."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KAFKA_VERSION = "4.1.1"
LOG4J_VERSION = "2.25.1"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",  # else an old one is resolved
    f"org.apache.kafka:kafka-server-common:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools-api:{KAFKA_VERSION}",
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
    f"org.apache.logging.log4j:log4j-core:{LOG4J_VERSION}",
)
PINS = Path(__file__).with_name("jars.txt")


class JarsError(Exception):
    """The jars cannot be downloaded, or differ from the pinned ones."""


@dataclass(frozen=True)
class Pin:
    """The pinned name, hash and size of a jar."""

    name: str
    sha256: str
    size_bytes: int


def class_path(cache: Path | None = None) -> list[Path]:
    """Return the jars of Kafka; the first call on a machine downloads 44 MB and shows a progress bar.

    Later calls read the cached paths only, unless the coordinates have changed or a jar is missing.
    """
    folder = cache or cache_folder()
    memory = folder / "kafka-jars.json"
    if jars := remembered(memory):
        return jars
    with _locked(folder / "kafka-jars.lock"):  # jgo is not made for two at a time
        if jars := remembered(memory):
            return jars
        jars = _resolve()
        temporary = memory.with_suffix(".new")
        temporary.write_text(json.dumps({"coordinates": COORDINATES, "jars": [str(jar) for jar in jars]}))
        temporary.replace(memory)
    return jars


def cache_folder() -> Path:
    """Return the folder of what is downloaded once a user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driftline"


def remembered(memory: Path) -> list[Path]:
    """Return the jars of an earlier resolve, or nothing if they are not all there or not those wanted now."""
    try:
        content = json.loads(memory.read_text())
        if content["coordinates"] != list(COORDINATES):
            return []
        jars = [Path(jar) for jar in content["jars"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return jars if all(jar.is_file() for jar in jars) else []


def pins(path: Path = PINS) -> list[Pin]:
    """Read the pinned jars: one line each, ``sha256 size_bytes name``."""
    rows = (line.split() for line in path.read_text().splitlines())
    return [Pin(name, sha256, int(size)) for sha256, size, name in rows]


def faults(jars: Sequence[Path], wanted: Sequence[Pin]) -> dict[str, str]:
    """Compare files with their pins; return what is wrong, by the jar's name."""
    found = {jar.name: jar for jar in jars}
    wrong = dict.fromkeys(found.keys() - {pin.name for pin in wanted}, "is not pinned")
    for pin in wanted:
        jar = found.get(pin.name)
        if jar is None:
            wrong[pin.name] = "is missing"
        elif jar.stat().st_size != pin.size_bytes:
            wrong[pin.name] = f"has {jar.stat().st_size} bytes instead of {pin.size_bytes}"
        elif hashlib.sha256(jar.read_bytes()).hexdigest() != pin.sha256:
            wrong[pin.name] = "has a SHA-256 that differs from the pinned one"
    return wrong


def _resolve() -> list[Path]:
    """Let jgo resolve and download; try once more without what an interrupted download has left."""
    wanted = pins()
    repository = _repository()
    for last in (False, True):
        environment = _build(repository, wanted)
        jars = [Path(jar) for jar in environment.all_jars]
        wrong = faults(jars, wanted)
        if not wrong:
            return jars
        if not last:
            _discard(repository, jars, wrong)
    listed = "\n".join(f"  {name} {fault}" for name, fault in sorted(wrong.items()))
    raise JarsError(f"the jars of Kafka differ from those pinned in {PINS.name}:\n{listed}")


def _repository() -> Path:
    """Return Maven's local repository, where other programs may have left the same jars."""
    from jgo.config import GlobalSettings

    return Path(GlobalSettings.load().repo_cache).expanduser()


def _build(repository: Path, wanted: Sequence[Pin]) -> Any:
    """Resolve into jgo's cache, with a bar that counts the bytes of the jars."""
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.env import EnvironmentBuilder, LinkStrategy
    from jgo.maven import MavenContext, PythonResolver

    with _progress(sum(pin.size_bytes for pin in wanted)) as on_download:
        context = MavenContext(
            resolver=PythonResolver(progress_callback=on_download),
            repo_cache=repository,
            remote_repos={"central": MAVEN_CENTRAL_URL},
        )
        builder = EnvironmentBuilder(context, GlobalSettings.load().cache_dir, LinkStrategy.AUTO)
        try:
            return builder.from_endpoint("+".join(COORDINATES))
        except Exception as error:  # jgo raises what its HTTP client raises, and plain RuntimeErrors
            raise JarsError(
                f"Kafka's jars could not be downloaded: {error}. The first start needs network access. "
                "Without it, set DRIFTLINE_BROKER to a running Kafka."
            ) from error


def _discard(repository: Path, jars: Sequence[Path], wrong: dict[str, str]) -> None:
    """Remove faulty jars from Maven's local repository, and jgo's environment, which links to them."""
    import shutil

    for name in wrong:
        for jar in repository.rglob(name):
            jar.unlink()
    for folder in {jar.parent.parent for jar in jars}:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _progress(total_bytes: int) -> Iterator[Callable[[str, int], Any]]:
    """Show a bar on standard error; yield the callback in jgo's form."""
    from rich import progress as bar
    from rich.console import Console

    title = f"Apache Kafka {KAFKA_VERSION}, first start: "
    columns = (
        bar.TextColumn("{task.description}"),
        bar.BarColumn(),
        bar.DownloadColumn(),
        bar.TimeElapsedColumn(),
    )
    with bar.Progress(
        bar.SpinnerColumn(), *columns, console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task(title + "reading the catalogue", total=total_bytes)

        @contextlib.contextmanager
        def on_download(name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
            progress.update(task, description=title + name)
            counts = name.endswith(".jar")  # the total does not hold the descriptions that jgo reads first
            yield lambda count_bytes: progress.advance(task, count_bytes if counts else 0)

        yield on_download


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
