"""The diagram of docs/concepts/architecture.md has every process and topic, its writers and its readers."""

import re

import pytest

from services.runtime.declaration_file import load_all
from services.runtime.settings import ROOT
from streams import topics
from tests.contract import deployment_files, pages

STORES = {"Redis: online store, watermarks", "Delta tables", "MLflow"}
_NODE = re.compile(r"(\w+)(?:\[\(|\(\[|\[)\"([^\"]+)\"(?:\)\]|\]\)|\])")
_EDGE = re.compile(r"(\w+)\S*? --> (\w+)")

Diagram = tuple[dict[str, str], set[tuple[str, str]]]


@pytest.fixture(scope="module")
def diagram() -> Diagram:
    """Return the label of each node, and the edges as pairs of labels."""
    blocks, _ = pages.split((ROOT / "docs" / "concepts" / "architecture.md").read_text(encoding="utf-8"))
    mermaid = next(block.code for block in blocks if block.language == "mermaid")
    labels: dict[str, str] = dict(_NODE.findall(mermaid))
    arrows = [line for line in mermaid.splitlines() if "-->" in line]
    plain = [_NODE.sub(r"\1", line) for line in arrows]
    pairs = [_EDGE.search(line) for line in plain]
    assert all(pairs), arrows
    edges = {(labels[pair[1]], labels[pair[2]]) for pair in pairs if pair}
    return labels, edges


def application_topics() -> set[str]:
    declared = {
        topic
        for model in load_all(ROOT / "models").values()
        for topic in (model.request.topic, model.label.topic)
    }
    definitions = (ROOT / "feature_repo" / "definitions.py").read_text(encoding="utf-8")
    return declared | set(re.findall(r"topic=\"([\w.]+)\"", definitions))


def short(module: str) -> str:
    return module.removeprefix("services/")


def test_every_node_is_a_module_a_topic_or_a_store(diagram: Diagram) -> None:
    known = {topic.name for topic in topics.ALL} | application_topics() | STORES
    for label in diagram[0].values():
        assert (ROOT / label).is_dir() if label.startswith("services/") else label in known, label


def test_every_process_and_every_topic_is_in_the_diagram(diagram: Diagram) -> None:
    expected = {f"services/{process}" for process in deployment_files.processes()}
    expected |= {topic.name for topic in topics.ALL} | application_topics()
    assert expected <= set(diagram[0].values())


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_arrows_agree_with_the_declared_producer_and_consumers(
    diagram: Diagram, topic: topics.InternalTopic
) -> None:
    processes = set(deployment_files.processes())
    writers = {short(source) for source, target in diagram[1] if target == topic.name}
    readers = {short(target) for source, target in diagram[1] if source == topic.name}
    assert writers == processes & set(re.findall(r"\w+", topic.producer))
    assert readers == processes & set(topic.consumers)


def test_applications_write_every_topic_of_theirs(diagram: Diagram) -> None:
    written = {target for source, target in diagram[1] if source == "services/demo"}
    assert written == application_topics()


def test_table_of_guarantees_has_a_row_for_every_process() -> None:
    page = (ROOT / "docs" / "concepts" / "delivery.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert rows == set(deployment_files.processes())
