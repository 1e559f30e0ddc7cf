"""What a run of ``driftline erase`` prints. Pure."""

from collections.abc import Iterator

from services.operations.erasure.run import ErasureReport
from services.runtime import times


def lines(report: ErasureReport, *, dry_run: bool) -> list[str]:
    """Return the table of the places, what is left to others, and until when Kafka holds what."""
    return [*_table(report, dry_run=dry_run), *_left(report), *_kafka(report)]


def _table(report: ErasureReport, *, dry_run: bool) -> Iterator[str]:
    width = max(len(place.name) for place in report.places)
    yield f"{'place':<{width}}  {'found':>7}  {'would be erased' if dry_run else 'erased':>7}"
    for place in report.places:
        erased = place.found if dry_run else place.erased
        yield f"{place.name:<{width}}  {place.found:>7}  {erased:>7}  {place.note}".rstrip()


def _left(report: ErasureReport) -> Iterator[str]:
    for path, count in report.batch_sources.items():
        yield (
            f"warning  {path}: {count} rows of the subject in a batch source: remove them there, or Feast "
            "materialises them again"
        )
    for topic, count in report.not_archived.items():
        yield f"warning  {topic}: {count} records of the subject are not archived yet"
    if report.waiting_until_ms is not None:
        yield (
            "warning  drift, learning and rollout may hold predictions of the subject that wait for labels: "
            f"run it again after {times.minute(report.waiting_until_ms)}"
        )
    if report.unlinked:
        yield (
            f"warning  requests of {', '.join(report.unlinked)} do not name the subject: their predictions "
            "were not searched"
        )


def _kafka(report: ErasureReport) -> Iterator[str]:
    yield "Kafka deletes no single records. These topics may hold some of the subject:"
    width = max((len(each.topic) for each in report.retentions), default=0)
    for each in report.retentions:
        yield f"  {each.topic:<{width}}  {each.text}"
