"""The types of fields that many records have."""

from typing import Annotated

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
TimeMs = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000, le=253_402_300_799_999)]
"""A time from the year 1 to the year 9999."""
FeatureValue = float | Int64 | str | bool | None
ASKED_OVER_HTTP = -1
"""Source partition and offset of a prediction that was requested over HTTP, not by a record."""
