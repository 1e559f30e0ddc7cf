"""The features of recently read requests, over HTTP and from Kafka, to which explained rows are compared."""

from collections import deque

import numpy as np

from services.scoring.scored_batch import FeatureColumns

ROWS_MAX = 32
ADDED_ROWS_MAX = 4
"""Maximum rows from one batch, so that the rows are of several batches."""


class RecentRows:
    """The last rows of the last batches."""

    def __init__(self) -> None:
        """Start empty."""
        self._recent: deque[FeatureColumns] = deque(maxlen=ROWS_MAX // ADDED_ROWS_MAX)

    def add(self, columns: FeatureColumns) -> None:
        """Keep the last rows of a batch. A small batch is kept without a copy: columns are never changed."""
        count = len(next(iter(columns.values())))
        if count > ADDED_ROWS_MAX:
            columns = {name: column[-ADDED_ROWS_MAX:].copy() for name, column in columns.items()}
        self._recent.append(columns)

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(len(next(iter(columns.values()))) for columns in self._recent)

    def columns(self) -> FeatureColumns:
        """Return the rows, the newest last."""
        kept = list(self._recent)
        return {name: np.concatenate([columns[name] for columns in kept]) for name in kept[-1]}
