"""The tables of the reference pages."""

from services.operations import cli, reference_pages
from streams import topics


def test_every_command_has_a_row() -> None:
    table = reference_pages.command_table()
    assert all(f"| `driftline {name}` | {text} |" in table for name, _, text in cli.COMMANDS)


def test_every_topic_has_a_row_with_its_retention() -> None:
    rows = {line.split("`")[1]: line for line in reference_pages.topic_table().splitlines()[2:]}
    assert rows.keys() == {topic.name for topic in topics.ALL}
    assert rows["driftline.models"].endswith("| newest per key |")
    assert rows["driftline.retraining"].endswith("| no limit |")
    assert rows["driftline.features"].endswith("| 30 days |")


def test_counter_has_the_name_that_prometheus_shows() -> None:
    table = reference_pages.metric_table()
    assert "| `driftline_predictions_total` | counter | model, outcome |" in table
    assert "| `driftline_model_info` | gauge | model, arm, version |" in table


def test_no_cell_breaks_its_row() -> None:
    for table in (reference_pages.topic_table(), reference_pages.metric_table()):
        widths = {line.count("|") for line in table.splitlines()}
        assert len(widths) == 1
