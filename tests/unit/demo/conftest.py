"""Days that several tests of the demo share."""

import datetime as dt

import pandas as pd
import pytest

from services.demo.days import Days


@pytest.fixture
def days() -> Days:
    """Calm days but for one of rain in March, with a holiday on the 12th."""
    index = [dt.date(2013, 2, 1) + dt.timedelta(days=number) for number in range(60)]
    calm = {"late_share": 0.2, "cancelled_share": 0.01, "rain": 0.0, "gust": 20.0, "visibility": 10.0}
    table = pd.DataFrame({name: [value] * len(index) for name, value in calm.items()}, index=index)
    table["temperature"] = 50.0
    table.loc[dt.date(2013, 3, 8), ["rain", "late_share", "cancelled_share"]] = (2.0, 0.6, 0.3)
    return Days(table, pd.Series({dt.date(2013, 3, 12): "Pancake Day"}))
