"""``driftline ledger list`` and ``driftline ledger verify``."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter

from services.model_registry import ledger, ledger_drafts, models_topic
from services.model_registry.ledger_chain import Chain, ChainFault
from services.monitoring import inference_log
from services.operations.governance import ledger_check, ledger_list
from services.operations.governance.ledger_check import TableRow
from services.operations.governance.ledger_list import EntryFilter
from services.runtime import kafka_consumers, times
from services.runtime.command_output import fail, failing_on, ok, say, warn
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings

COMMAND = "driftline ledger"
ROWS_MAX = 100


def show(
    name: str | None = None,
    *,
    kind: str | None = None,
    version: int | None = None,
    request: str | None = None,
    by: str | None = None,
    since: str | None = None,
    limit: int = ROWS_MAX,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """List the entries of the ledger, the newest last.

    Args:
        name: Model; default: all.
        kind: Only entries of this kind, such as approval, gate or arms_changed.
        version: Only entries about this version.
        request: Only entries of this retraining request.
        by: Only entries of this person or process.
        since: Only entries of the last 90s, 30m, 2h or 7d, by wall time.
        limit: Maximum number of entries to show, the newest.
        json: Print one JSON document.
    """
    with failing_on(COMMAND, ValueError, about="--since"):
        since_ms = None if since is None else times.now_ms() - times.duration_ms(since)
    chosen = EntryFilter(name, kind, version, request, by, since_ms)
    with failing_on(COMMAND, MissingTopicError):
        entries = ledger.read(Settings())
    found = [entry for entry in entries if chosen.admits(entry)]
    if json:
        say(msgspec.json.encode({"count": len(found), "entries": found[-limit:]}).decode())
        return
    say(*ledger_list.lines(found[-limit:]), f"{len(found)} entries, {min(len(found), limit)} shown")


def verify(
    *,
    head: str | None = None,
    known: Annotated[list[int] | None, Parameter(negative="")] = None,
) -> None:
    """Check that no entry was changed, removed or moved, in the topic and in the archive's table.

    Ends with exit code 1 and the first fault if there is one.

    Args:
        head: A hash that an earlier run printed and that was noted elsewhere: the ledger must still have it.
        known: Offset of a record whose fault was looked into; repeat it for others.
    """
    settings = Settings()
    rows, position = _table(settings)  # before the topic, which is ahead of it
    with failing_on(COMMAND, MissingTopicError):
        topic = kafka_consumers.read_topic(settings, "ledger-verify", ledger.PARTITION.topic)
        log = {record.offset: record.value for record in topic}
        chain = ledger_check.chain_of(log)
        arms = models_topic.read(settings)
    faults = [*chain.faults, *ledger_check.table_faults(log, rows, position)]
    _report([fault for fault in faults if fault.offset not in (known or ())], chain)
    if head is not None and (fault := ledger_check.head_fault(chain, head)):
        fail(f"{COMMAND} verify: {fault}")
    ok(f"topic: {len(chain.entries)} entries, {chain.overtaken} overtaken and written again")
    ok(f"table: {len(rows)} rows as in the topic" if position else "table: nothing is archived yet")
    for change in ledger_drafts.unrecorded(chain.entries, arms):
        warn(f"{change.model}: the present arms are not in the ledger ({change.reason}); the next command or "
             "process that changes arms adds the entry")  # fmt: skip
    say(f"head {chain.head}")


def _report(faults: Sequence[ChainFault], chain: Chain) -> None:
    if faults:
        first = faults[0]
        fail(
            f"{COMMAND} verify: the first fault is {first.name}, offset {first.offset}: {first.text}",
            f"{len(faults)} faults; {len(chain.entries)} entries were read. Compare the topic with the table "
            "and with backups, and find out who may write to them. After that, --known OFFSET leaves a "
            "record out",
        )


def _table(settings: Settings) -> tuple[list[TableRow], int]:
    """Return the rows of the table and the first offset that is not in it; nothing without a table."""
    topic = ledger.PARTITION.topic
    position = inference_log.positions(settings, inference_log.LEDGER, {topic: [0]})[topic][0]
    if not position:
        return [], 0
    from deltalake import DeltaTable

    table = DeltaTable(inference_log.path(settings, inference_log.LEDGER)).to_pyarrow_table()
    return [TableRow(row["offset"], row["record"], row) for row in table.to_pylist()], position
