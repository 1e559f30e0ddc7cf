"""What is served: the features of rows, and of each view how old they are and why one is missing."""

import dataclasses
import enum
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from services.runtime import watermarks

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Statuses = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]


class Status(enum.IntEnum):
    """What stands behind a served value, numbered as in Feast's ``FieldStatus``."""

    PRESENT = 1
    NULL_VALUE = 2
    """The newest event, or the window, gives no value."""
    NOT_FOUND = 3
    """The entity has no event by the row's event time, or none that is still kept."""
    OUTSIDE_MAX_AGE = 4
    """The newest event is older than the view's ttl."""


@dataclasses.dataclass(frozen=True)
class ServedView:
    """How old one view's values are in n rows; nothing is computed before it is asked for."""

    times_ms: Int64s
    """(n,): the event times at which the rows were asked for."""
    newest_ms: Int64s
    """(n,): the event time of what was served, `watermarks.NEVER` where nothing was found."""
    ttl_ms: int
    """0: for ever."""

    @cached_property
    def found(self) -> Bools:
        """(n,): whether the entity has a row."""
        found: Bools = self.newest_ms != watermarks.NEVER
        return found

    @cached_property
    def ages_ms(self) -> Int64s:
        """(n,): the age at the row's event time; 0 for a batch row that is newer; -1 where none was found."""
        return np.where(self.found, np.maximum(self.times_ms - self.newest_ms, 0), -1)

    @cached_property
    def hidden(self) -> Bools:
        """(n,): whether all features are missing, because of no row or too old a one."""
        return ~self.found | (self.ages_ms > self.ttl_ms) if self.ttl_ms else ~self.found

    def statuses(self, column: AnyArray) -> Statuses:
        """Return (n,) `Status` numbers of one feature, given its values (n,)."""
        missing = column == None if column.dtype == object else np.isnan(column)  # noqa: E711  # by element
        seen = np.where(self.found, Status.OUTSIDE_MAX_AGE, Status.NOT_FOUND)
        present = np.where(missing, Status.NULL_VALUE, Status.PRESENT)
        return np.where(self.hidden, seen, present).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class ServedFeatures:
    """The features of n rows."""

    columns: Mapping[str, AnyArray]
    """By feature name, in the service's order; each (n,): float64 with nan, strings as object with None."""
    lag_ms: Int64s
    """(n,): by how much the slowest stream view's watermark was behind the row's event time; 0 when it had
    passed; -1 when some view has never reported."""
    beyond_retention: int
    """How many rows asked for a time so old that some view has already let go of it: served as missing."""
    watermarks_ms: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    """By stream view: up to where it is complete; None as long as some partition has not reported."""
    views: Mapping[str, ServedView] = dataclasses.field(default_factory=dict)
    """By name; batch views without a ttl only where the reader is ``detailed``."""

    def statuses(self, column: str, view: str) -> Statuses:
        """Return the (n,) `Status` numbers of one of the view's columns; KeyError if there is none."""
        return self.views[view].statuses(self.columns[column])
