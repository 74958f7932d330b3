"""How loud the room speaks."""

from __future__ import annotations

from pydantic import Field

from roomtone.core.dialog import Noun
from roomtone.engines.tools import Result
from roomtone.mind import Household
from roomtone.mind.tools.built_in import Nothing, built_in


class Loudness(Noun):
    """Loudness in percent."""

    percent: int = Field(ge=0, le=100)


@built_in("volume.set", "Set your loudness", Loudness, changes=True)
async def set_volume(wanted: Loudness, house: Household) -> Result:
    """Set loudness."""
    before = round(house.volume() * 100)
    await house.set_volume(wanted.percent / 100)
    return Result(f"volume {wanted.percent} percent, before {before}", undo=("volume.set", {"percent": before}))


@built_in("volume.get", "Your loudness")
async def volume(_: Nothing, house: Household) -> Result:
    """Tell loudness."""
    return Result(f"volume {round(house.volume() * 100)} percent")


TOOLS = (set_volume, volume)
