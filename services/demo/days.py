"""What happened on each day of the demo's year: delays, weather, holidays.

The facts come from the same files as the flights; days are those of New York. They explain alarms afterwards
and are never sent.
"""

import dataclasses
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from services.demo import flights, months

if TYPE_CHECKING:
    import pandas as pd

LATE_MINUTES = 15
RAIN_INCHES = 0.75
"""Mean over the three airports from which a day counts as rainy; 10 days of 2013."""
SNOW_INCHES = 0.1
"""Inches of water from which a day with a mean temperature at freezing counts as snowy."""
FREEZING_FAHRENHEIT = 34.0
GUST_MPH = 46.0
FOG_MILES = 1.0
"""Lower quartile of a day's visibility at which it counts as foggy."""
CANCELLED_SHARE = 0.10
BEFORE_DAYS = 28
"""Number of days before a period with which it is compared."""
HOLIDAY_MARGIN = dt.timedelta(days=2)
"""People travel before and after a holiday."""
NAMED_DAYS_MAX = 2


@dataclasses.dataclass(frozen=True)
class Days:
    """The year, day by day."""

    table: "pd.DataFrame"
    """One row per date: late_share, cancelled_share, rain in inches, gust in mph, visibility in miles
    (its lower quartile), temperature in Fahrenheit."""
    holidays: "pd.Series[str]"
    """Names by date."""

    def between(self, start: dt.date, end: dt.date) -> "pd.DataFrame":
        """Return the days from ``start`` to ``end``, both included."""
        return self.table.loc[start:end]

    def summary(self, start: dt.date, end: dt.date) -> str:
        """Describe unusual events of these days in one line; never empty."""
        found = self.between(start, end)
        if found.empty:
            return "no flights"
        before = self.between(start - dt.timedelta(days=BEFORE_DAYS), start - dt.timedelta(days=1))
        parts = [_late(found, before), *_weather(found), _cancelled(found), self._holidays(start, end)]
        return "; ".join(filter(None, parts))

    def _holidays(self, start: dt.date, end: dt.date) -> str:
        near = self.holidays.loc[start - HOLIDAY_MARGIN : end + HOLIDAY_MARGIN]
        return ", ".join(near)


def load(data_folder: Path | None = None) -> Days:
    """Read the year's days; raise `FlightsMissingError` when the package is not installed."""
    import pandas as pd
    from pandas.tseries.holiday import USFederalHolidayCalendar

    folder = data_folder or flights.installed_folder()
    table = _flown(folder).join(_observed(folder))
    first, last = dt.date(months.YEAR, 1, 1), dt.date(months.YEAR, 12, 31)
    known = USFederalHolidayCalendar().holidays(start=first, end=last, return_name=True)
    names = {day: str(name) for day, name in zip(pd.DatetimeIndex(known.index).date, known, strict=True)}
    return Days(table, pd.Series(names, dtype="object"))


def day_of(event_time_ms: int) -> dt.date:
    """Return the day in New York.

    >>> day_of(months.SCORING_START_MS - 1)
    datetime.date(2013, 1, 31)
    """
    return dt.datetime.fromtimestamp(event_time_ms / 1000, months.ZONE).date()


def _flown(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    columns = ["year", "month", "day", "dep_delay", "arr_delay"]
    table = pd.read_csv(folder / "flights.csv.zip", usecols=columns)
    late = (table["arr_delay"] > LATE_MINUTES).where(table["arr_delay"].notna())
    facts = pd.DataFrame(
        {
            "late_share": late.astype("float64"),
            "cancelled_share": table["dep_delay"].isna().astype("float64"),
        }
    )
    return facts.groupby(_dates(table)).mean()


def _observed(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    columns = ["origin", "year", "month", "day", "temp", "precip", "wind_gust", "visib"]
    table = pd.read_csv(folder / "weather.csv", usecols=columns)
    dates = _dates(table)
    rain = table.groupby([dates, table["origin"]])["precip"].sum().groupby(level=0).mean()
    days = table.groupby(dates)
    return pd.DataFrame(
        {
            "rain": rain,
            "gust": days["wind_gust"].max(),
            "visibility": days["visib"].quantile(0.25),
            "temperature": days["temp"].mean(),
        }
    )


def _dates(table: "pd.DataFrame") -> "pd.Series[dt.date]":
    import pandas as pd

    return pd.to_datetime(table[["year", "month", "day"]]).dt.date.rename("date")


def _late(found: "pd.DataFrame", before: "pd.DataFrame") -> str:
    now = found["late_share"].mean()
    if before.empty:
        return f"{now:.0%} late"
    return f"{now:.0%} late, {before['late_share'].mean():.0%} in the four weeks before"


def _weather(found: "pd.DataFrame") -> list[str]:
    freezing = found["temperature"] < FREEZING_FAHRENHEIT
    snow = found[freezing & (found["rain"] >= SNOW_INCHES)]
    rain = found[~freezing & (found["rain"] >= RAIN_INCHES)]
    fog = found[(found["visibility"] <= FOG_MILES) & ~found.index.isin(rain.index.union(snow.index))]
    gusts = found[found["gust"] >= GUST_MPH]
    return [
        _named("snow", snow, snow["rain"]),
        _named("heavy rain", rain, rain["rain"], " in"),
        _named("gusts", gusts, gusts["gust"], " mph"),
        _named("fog", fog, -fog["visibility"]),
    ]


def _named(what: str, days: "pd.DataFrame", strength: "pd.Series[float]", unit: str = "") -> str:
    """Name the days with the highest values, and count the others."""
    if days.empty:
        return ""
    strongest = strength.nlargest(NAMED_DAYS_MAX)
    named = ", ".join(
        f"{day:%-d %b}" + (f" ({value:.{1 if value < 10 else 0}f}{unit})" if unit else "")
        for day, value in strongest.sort_index().items()
    )
    others = len(days) - len(strongest)
    more = f" and on {others} other day{'s' if others > 1 else ''}" if others else ""
    return f"{what} {named}{more}"


def _cancelled(found: "pd.DataFrame") -> str:
    worst = found[found["cancelled_share"] >= CANCELLED_SHARE]["cancelled_share"].nlargest(NAMED_DAYS_MAX)
    days = [f"{day:%-d %b} ({share:.0%})" for day, share in worst.sort_index().items()]
    return f"cancelled {', '.join(days)}" if days else ""
