"""The features that are served for rows: values, their age, and why one is missing."""

import dataclasses
import enum
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from services.feature_store.missing_values import is_missing
from services.runtime import watermarks

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Statuses = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]


class Status(enum.IntEnum):
    """Where a served value comes from, or why it is missing; numbered as in Feast's ``FieldStatus``."""

    PRESENT = 1
    NULL_VALUE = 2
    """The newest event has a null, or the window has no value."""
    NOT_FOUND = 3
    """The entity has no event up to the row's event time, or none that is still kept."""
    OUTSIDE_MAX_AGE = 4
    """The newest event is older than the view's ttl."""


@dataclasses.dataclass(frozen=True)
class ServedView:
    """How old one view's values are in n rows; computed only when needed."""

    times_ms: Int64s
    """(n,): the event times of the rows."""
    newest_ms: Int64s
    """(n,): the event time of what was served, `watermarks.NEVER` if nothing was found."""
    ttl_ms: int
    """Values do not expire if 0."""

    @cached_property
    def found(self) -> Bools:
        """(n,): whether something was found for the entity."""
        found: Bools = self.newest_ms != watermarks.NEVER
        return found

    @cached_property
    def ages_ms(self) -> Int64s:
        """(n,): the age at the row's event time; 0 for a batch row that is newer; -1 if nothing was found."""
        return np.where(self.found, np.maximum(self.times_ms - self.newest_ms, 0), -1)

    @cached_property
    def hidden(self) -> Bools:
        """(n,): whether all features are missing, because nothing was found or it is too old."""
        return ~self.found | (self.ages_ms > self.ttl_ms) if self.ttl_ms else ~self.found

    def statuses(self, column: AnyArray) -> Statuses:
        """Return the `Status` numbers (n,) of one feature, given its values (n,)."""
        missing = is_missing(column)
        hidden_as = np.where(self.found, Status.OUTSIDE_MAX_AGE, Status.NOT_FOUND)
        present = np.where(missing, Status.NULL_VALUE, Status.PRESENT)
        return np.where(self.hidden, hidden_as, present).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class ServedFeatures:
    """The features of n rows."""

    columns: Mapping[str, AnyArray]
    """The values by feature, in the service's order; (n,) float64 with nan, strings object with None."""
    lag_ms: Int64s
    """(n,): by how much the slowest stream view's watermark is before the row's event time.

    0 if the watermark has passed the event time, -1 if some view has never reported.
    """
    beyond_retention: int
    """Number of rows whose event time is older than what some view keeps; its features are missing there."""
    watermarks_ms: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    """The event time up to which each stream view is complete; None until all partitions have reported."""
    views: Mapping[str, ServedView] = dataclasses.field(default_factory=dict)
    """The views by name; batch views without a ttl only if the reader is ``detailed``."""

    def statuses(self, column: str, view: str) -> Statuses:
        """Return the `Status` numbers (n,) of one of the view's columns; KeyError if there is none."""
        return self.views[view].statuses(self.columns[column])
