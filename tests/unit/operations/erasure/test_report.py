"""What a run prints: places with counts, what is left to others, what Kafka holds."""

from services.operations.erasure.kafka_holdings import Retention
from services.operations.erasure.places import Place
from services.operations.erasure.report import lines
from services.operations.erasure.run import ErasureReport

REPORT = ErasureReport(
    erasure_id="e",
    places=[Place("online store", int, str, 2, 2), Place("archive: events", int, str, 3, 1, "a note")],
    not_archived={"orders": 4},
    batch_sources={"facts.parquet": 5},
    retentions=[Retention("orders", "delete", -1, 0, 1)],
    waiting_until_ms=60_000,
    unlinked=["rain"],
    unfinished=[],
    known=False,
    resumed=False,
)


def test_places_are_a_table_and_the_rest_are_sentences() -> None:
    shown = lines(REPORT, dry_run=False)
    assert shown[1:3] == [
        "online store           2        2",
        "archive: events        3        1  a note",
    ]
    assert any("facts.parquet: 5 rows of the subject in a batch source" in line for line in shown)
    assert any("orders: 4 records of the subject are not archived yet" in line for line in shown)
    assert any("run it again after 1970-01-01 00:01 UTC" in line for line in shown)
    assert any("requests of rain do not name the subject" in line for line in shown)
    assert shown[-1].startswith("  orders  retention.ms=-1: without a limit")


def test_a_dry_run_says_what_would_be_erased() -> None:
    shown = lines(REPORT, dry_run=True)
    assert "would be erased" in shown[0]
    assert "archive: events        3        3" in shown[2]
