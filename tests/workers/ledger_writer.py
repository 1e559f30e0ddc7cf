"""A process that writes entries of a model to the ledger, one after the other, until it is killed.

Arguments: model, name of the writer, number of entries. It prints the number of each entry that is written.
"""

import sys

from services.model_registry import ledger
from services.model_registry.ledger_chain import EntryDraft
from services.runtime.settings import Settings


def main() -> None:
    """Write the entries that are missing."""
    model, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with ledger.opened(Settings(), writer) as opened:
        for number in range(count):
            draft = EntryDraft(
                kind="gate",
                model=model,
                evidence={"writer": writer},
                actor=writer,
                at_ms=number,
                request_id=f"{model}-{writer}",
                step=str(number),
            )
            opened.append(draft)
            print(number, flush=True)


if __name__ == "__main__":
    main()
