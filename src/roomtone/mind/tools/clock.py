"""What time it is, here and elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.core.errors import ToolError
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.tools.built_in import built_in


class Where(Noun):
    """Where the clock hangs."""

    zone: str = Field("", max_length=60, description="IANA zone or its city, if not here")


@built_in("clock.now", "Date and time", Where)
async def now(asked: Where, house: Household) -> Result:
    """Tell the weekday, date and time, in the household's zone or another."""
    if not house.clock_is_right():
        raise ToolError("the clock is not set: there is no network since the last power cut")
    at = house.now()
    if asked.zone:
        at = at.astimezone(_zone(asked.zone))
    return Result(f"{at:%A %Y-%m-%d %H:%M}, {at.tzinfo}", at.isoformat())


def _zone(text: str) -> ZoneInfo:
    """Return the time zone of a name, or of the city that gave it one (new york)."""
    wanted = text.strip().casefold().replace(" ", "_")
    for name in _zones():
        if wanted in (name.casefold(), name.casefold().rpartition("/")[2]):
            return ZoneInfo(name)
    raise ToolError(f"there is no time zone '{text}': name one as Europe/Berlin")


@cache
def _zones() -> tuple[str, ...]:
    # zoneinfo.available_timezones() opens six hundred files to say the same
    return tuple(files("tzdata").joinpath("zones").read_text("utf-8").split())


TOOLS = (now,)
