"""A stock Evidently in a separate environment reads our snapshot. Argument: the file; prints JSON."""

import json
import sys

from evidently.core.report import Snapshot
from evidently.metrics import DriftedColumnsCount, MissingValueCount, RowCount, ValueDrift

OURS = (
    RowCount(),
    DriftedColumnsCount(),
    ValueDrift(column="x", method="psi"),
    MissingValueCount(column="colour"),
)


def main() -> None:
    """Load, render, write and load again."""
    snapshot = Snapshot.load(sys.argv[1])
    metrics = snapshot.dict()["metrics"]
    answer = {
        "metrics": metrics,
        "has_ids_of_evidently": {metric.get_metric_id() for metric in OURS}
        <= {each["id"] for each in metrics},
        "is_same_after_its_own_writing": Snapshot.loads(snapshot.dumps()).dict()["metrics"] == metrics,
        "html_names_columns": "Value drift" in str(snapshot.metric_results)
        and "Drift in column 'x'" in snapshot.get_html_str(as_iframe=False),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
