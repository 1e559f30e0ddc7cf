"""The lists of commands, topics and metrics in docs/reference/, made from the code.

``python -m services.operations.reference_pages`` writes them again; a test fails when one is out of date.
"""

from collections.abc import Callable

from prometheus_client.metrics import MetricWrapperBase

from services.operations import cli
from services.operations.generated_section import GeneratedSection
from services.runtime import metrics
from services.runtime.settings import ROOT
from streams import topics


def command_table() -> str:
    """Return a Markdown table with one row per command."""
    rows = [f"| `driftline {name}` | {text} |" for name, _, text in sorted(cli.COMMANDS)]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def topic_table() -> str:
    """Return a Markdown table with one row per topic of Driftline's own."""
    rows = [
        f"| `{topic.name}` | {topic.record.replace('|', 'or')} | {topic.key} | {topic.producer} "
        f"| {', '.join(topic.consumers)} | {_retention(topic)} |"
        for topic in topics.ALL
    ]
    head = ["| topic | records | key | written by | read by | kept |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def metric_table() -> str:
    """Return a Markdown table with one row per metric, under the name that Prometheus sees."""
    families = [
        (family.name + ("_total" if family.type == "counter" else ""), family, metric)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
        for family in metric.describe()
    ]
    rows = [
        f"| `{name}` | {family.type} | {', '.join(_labels(metric))} | {family.documentation} |"
        for name, family, metric in sorted(families, key=lambda row: row[0])
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def _retention(topic: topics.InternalTopic) -> str:
    if topic.compacted:
        return "newest per key"
    return "no limit" if topic.retention_ms < 0 else f"{topic.retention_ms // topics.DAY_MS} days"


def _labels(metric: MetricWrapperBase) -> tuple[str, ...]:
    return tuple(metric._labelnames)  # noqa: SLF001  # prometheus_client has no public way


def _section(name: str, make: Callable[[], str]) -> GeneratedSection:
    page = ROOT / "docs" / "reference" / f"{name}.md"
    return GeneratedSection(name, page, "-m services.operations.reference_pages", make)


SECTIONS = (
    _section("commands", command_table),
    _section("topics", topic_table),
    _section("metrics", metric_table),
)


if __name__ == "__main__":
    for section in SECTIONS:
        section.write()
