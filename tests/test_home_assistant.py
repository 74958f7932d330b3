"""What Home Assistant is told of a room, key by key, what it makes of it, and what the room makes of its commands."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conftest import Run
from house_wire import Wire, WireLink
from roomtone.core.dialog import Ended, Source, Timer, Turn
from roomtone.core.machine import Mode
from roomtone.core.wire import COMMAND, Presence, State, Topics, read, write
from roomtone.edges.home_assistant import NAMES, STATUS, HomeAssistant, discovery, payload, topic
from roomtone.flow import beside
from roomtone.settings import Hub

TOPICS = Topics("ours")
AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
KITCHEN = Presence(
    id="kitchen-1", online=True, room="kitchen", name="Kitchen", version="0.6.0", personas=("companion", "chef")
)

ANYWHERE = (
    "platform name unique_id qos encoding icon entity_category entity_picture enabled_by_default object_id "
    "json_attributes_topic json_attributes_template availability availability_mode availability_template "
    "availability_topic payload_available payload_not_available"
)
SHOWN = "state_topic value_template"
WRITTEN = "command_topic command_template retain"
BOTH = f"{SHOWN} {WRITTEN} optimistic"
KNOWN = {
    "sensor": f"{SHOWN} device_class expire_after force_update last_reset_value_template options state_class "
    "suggested_display_precision unit_of_measurement",
    "binary_sensor": f"{SHOWN} device_class expire_after force_update off_delay payload_off payload_on",
    "event": f"{SHOWN} device_class event_types",
    "select": f"{BOTH} options",
    "number": f"{BOTH} device_class max min mode payload_reset step unit_of_measurement",
    "switch": f"{BOTH} device_class payload_off payload_on state_off state_on",
    "button": f"{WRITTEN} device_class payload_press",
    "notify": WRITTEN,
    "text": f"{BOTH} max min mode pattern",
}
NEEDED = {
    "sensor": "state_topic",
    "binary_sensor": "state_topic",
    "event": "state_topic event_types",
    "select": "command_topic options",
}
"""The fields that Home Assistant publishes for each platform, and those it needs (2024.11 and later).

From https://www.home-assistant.io/integrations/<platform>.mqtt/#configuration-variables; device and origin from
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload.
"""

DEVICE = (
    "identifiers connections manufacturer model model_id name hw_version serial_number sw_version via_device "
    "suggested_area configuration_url"
)
CLASSES = {"sensor": {"enum", "timestamp"}, "binary_sensor": {"problem"}}


# -------------------------------------------------------------------------------------- key by key


def components(*, shares_texts: bool = True, presence: Presence = KITCHEN) -> dict[str, dict[str, Any]]:
    """Return what is told of each component that is there."""
    told = discovery(TOPICS, presence, shares_texts=shares_texts)["components"]
    return {key: each for key, each in told.items() if len(each) > 1}


@pytest.mark.parametrize("key", components())
def test_a_component_has_the_keys_that_home_assistant_knows(key: str) -> None:
    component = components()[key]
    platform = component["platform"]
    assert component.keys() <= {*ANYWHERE.split(), *KNOWN[platform].split()}
    assert {"name", "unique_id", *NEEDED.get(platform, "command_topic").split()} <= component.keys()
    assert component.get("entity_category", "diagnostic") in {"config", "diagnostic"}
    assert component.get("device_class") in {None, *CLASSES.get(platform, set())}
    assert component.get("icon", "mdi:").startswith("mdi:")
    assert component["qos"] == 1
    assert not component.get("retain"), "a command that is kept would be given at every start"


def test_the_device_and_its_origin_have_the_keys_that_home_assistant_knows() -> None:
    told = discovery(TOPICS, KITCHEN, shares_texts=True)
    assert told.keys() == {"device", "origin", "availability", "components"}
    assert told["device"].keys() <= set(DEVICE.split())
    assert told["device"]["identifiers"]
    assert told["origin"].keys() <= {"name", "sw_version", "support_url"}
    assert (told["device"]["name"], told["device"]["suggested_area"]) == ("Kitchen", "Kitchen")
    [available] = told["availability"]
    assert available.keys() <= {"topic", "value_template", "payload_available", "payload_not_available"}


@pytest.mark.parametrize("shares_texts", [True, False])
def test_home_assistants_own_schemas_take_it(tmp_path: Path, shares_texts: bool) -> None:
    """Where its package is installed, in a Python that it runs on: pip install homeassistant paho-mqtt."""
    schemas = pytest.importorskip("homeassistant.components.mqtt.schemas")
    core = importlib.import_module("homeassistant.core")

    async def check() -> None:
        core.HomeAssistant(str(tmp_path))  # templates are only read where there is one
        schemas.DEVICE_DISCOVERY_SCHEMA(json.loads(payload(TOPICS, KITCHEN, shares_texts=shares_texts)))
        for component in components(shares_texts=shares_texts).values():
            platform = importlib.import_module(f"homeassistant.components.mqtt.{component['platform']}")
            platform.PLATFORM_SCHEMA_MODERN({key: each for key, each in component.items() if key != "platform"})

    asyncio.run(check())


def test_what_is_known_of_a_component_stays_when_the_room_is_renamed() -> None:
    moved = KITCHEN.model_copy(update={"room": "study", "name": "Desk", "version": "9", "personas": ("chef",)})
    before, after = components(), components(presence=moved)
    assert {each["unique_id"] for each in before.values()} == {each["unique_id"] for each in after.values()}
    assert len({each["unique_id"] for each in before.values()}) == len(before)
    other = components(presence=KITCHEN.model_copy(update={"id": "hall-1"}))
    assert not {each["unique_id"] for each in before.values()} & {each["unique_id"] for each in other.values()}


def test_every_component_has_a_name_and_no_name_is_left_over() -> None:
    assert components().keys() == NAMES.keys()
    assert len(set(NAMES.values())) == len(NAMES)


def test_every_topic_is_one_of_the_rooms_own() -> None:
    for component in components().values():
        for key in ("state_topic", "json_attributes_topic"):
            assert component.get(key, "") in {
                "",
                *(TOPICS.device("kitchen-1", it) for it in ("state", "presence", "turn")),
            }
        assert component.get("command_topic", "") in {"", TOPICS.device("kitchen-1", "command")}


def test_without_shared_texts_nothing_shows_what_was_said() -> None:
    told = payload(TOPICS, KITCHEN, shares_texts=False).decode()
    assert not any(each in told for each in ("value_json.heard", "value_json.said", "value_json.spoken", "'name'"))
    taken_back = discovery(TOPICS, KITCHEN, shares_texts=False)["components"]
    assert taken_back["heard"] == taken_back["said"] == {"platform": "sensor"}, "so it vanishes where it was shown"


# --------------------------------------------------------------------------------- what it makes of it


def rendered(template: str, **variables: Any) -> str:
    """Render a template as Home Assistant does, as far as ours go."""
    world = ImmutableSandboxedEnvironment()
    world.filters["to_json"] = lambda value: json.dumps(value, ensure_ascii=False)
    world.globals["now"] = lambda: AT
    return world.from_string(template).render(**variables).strip()


def shown(key: str, message: State | Presence | Turn, template: str = "value_template") -> str:
    return rendered(components()[key][template], value_json=json.loads(message.model_dump_json()))


def timer(name: str, minutes: int, **fields: Any) -> Timer:
    return Timer(name=name, due=AT + timedelta(minutes=minutes), **fields)


BUSY = State(
    at=AT,
    state="speaking",
    persona="chef",
    volume=0.29,
    quiet=True,
    serves=False,
    heard="how long " * 60,
    said='"Nine" minutes.',
    timers=(timer("pasta", 9), timer("eggs", 5, paused_s=0), timer("tea", -3, missed=True), timer("cake", 30)),
)
REST = State(at=AT, muted=True)


@pytest.mark.parametrize(
    ("key", "busy", "rest"),
    [
        ("state", "speaking", "idle"),
        ("heard", ("how long " * 60)[:255].strip(), "None"),
        ("said", '"Nine" minutes.', "None"),
        ("timers", "3", "0"),
        ("next_timer", "2026-03-01T08:09:00Z", "None"),
        ("problem", "ON", "OFF"),
        ("persona", "chef", "None"),
        ("volume", "29", "50"),
        ("microphone", "ON", "OFF"),
        ("quiet", "ON", "OFF"),
    ],
)
def test_a_state_shows_as(key: str, busy: str, rest: str) -> None:
    assert (shown(key, BUSY), shown(key, REST)) == (busy, rest)


def test_a_long_text_is_whole_in_an_attribute_and_so_are_the_names_of_timers() -> None:
    assert json.loads(shown("heard", BUSY, "json_attributes_template")) == {"text": BUSY.heard}
    names = json.loads(shown("timers", BUSY, "json_attributes_template"))
    assert names == {"timers": ["pasta", "eggs", "cake"]}


def test_every_state_and_every_end_of_a_turn_is_an_option() -> None:
    assert components()["state"]["options"] == [mode.value for mode in Mode]
    assert components()["turn"]["event_types"] == [ended.value for ended in Ended]


def test_a_finished_turn_is_an_event_that_tells_how_it_went() -> None:
    turn = Turn(
        turn=3,
        trace="a",
        session="s",
        room="kitchen",
        persona="chef",
        source=Source.VOICE,
        heard='"Stop"',
        spoken="Done.",
    )
    event = json.loads(shown("turn", turn))
    assert event["event_type"] == "completed"
    assert (event["persona"], event["source"], event["intent"], event["answered_by"]) == (
        "chef",
        "voice",
        None,
        "none",
    )
    assert (event["heard"], event["spoken"]) == ('"Stop"', "Done.")


@pytest.mark.parametrize(
    ("kept", "as_seen"),
    [
        (KITCHEN, "online"),
        (KITCHEN.model_copy(update={"online": False}), "offline"),
        (None, "offline"),
    ],
)
def test_a_room_is_there_when_its_own_presence_says_so(kept: Presence | None, as_seen: str) -> None:
    [available] = discovery(TOPICS, KITCHEN, shares_texts=True)["availability"]
    assert available["topic"] == TOPICS.device("kitchen-1", "presence")
    seen = {"value_json": json.loads(write(kept))} if kept else {}
    assert rendered(available["value_template"], **seen) == as_seen


def test_a_room_that_can_speak_as_nobody_yet_has_no_choice_of_personas() -> None:
    alone = KITCHEN.model_copy(update={"personas": ()})
    assert discovery(TOPICS, alone, shares_texts=True)["components"]["persona"] == {"platform": "select"}
    assert components()["persona"]["options"] == ["companion", "chef"]


# ------------------------------------------------------------------------------------- its commands


def ordered(key: str, value: Any = None) -> dict[str, Any]:
    """Return the command that a component writes, as the room reads it."""
    written = rendered(components()[key]["command_template"], value=value)
    return read(COMMAND, written.encode()).model_dump()


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("persona", "chef", {"do": "persona", "persona": "chef"}),
        ("volume", 35, {"do": "volume", "volume": 0.35}),
        ("volume", 100.0, {"do": "volume", "volume": 1.0}),
        ("microphone", "OFF", {"do": "mute", "muted": True}),
        ("microphone", "ON", {"do": "mute", "muted": False}),
        ("quiet", "ON", {"do": "quiet", "minutes": 1440}),
        ("quiet", "OFF", {"do": "quiet", "minutes": 0}),
        ("listen", "PRESS", {"do": "listen"}),
        ("stop", "PRESS", {"do": "stop"}),
        ("say", "Dinner!", {"do": "say", "text": "Dinner!", "chime": True, "urgent": False}),
        ("say_urgently", "Smoke!", {"do": "say", "text": "Smoke!", "chime": True, "urgent": True}),
        ("ask", "what time is it", {"do": "ask", "text": "what time is it"}),
    ],
)
def test_a_control_writes_a_command_that_the_room_knows(key: str, value: Any, meant: dict[str, Any]) -> None:
    command = ordered(key, value)
    assert meant.items() <= command.items()
    assert command["id"].startswith("ha-")


def test_every_control_is_tried_above() -> None:
    [table] = test_a_control_writes_a_command_that_the_room_knows.pytestmark
    controls = {key for key, each in components().items() if "command_topic" in each}
    assert controls == {key for key, *_ in table.args[1]}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_any_text_is_said_as_it_was_written(text: str) -> None:
    assert ordered("say", text)["text"] == text


# --------------------------------------------------------------------------------------- announcing


@dataclass
class House:
    """A kitchen's link to a broker, and what it keeps for Home Assistant."""

    wire: Wire
    link: WireLink
    told: list[bytes] = field(default_factory=list)
    presence: Presence = KITCHEN

    @property
    def kept(self) -> bytes | None:
        """Return what the broker keeps for Home Assistant."""
        return self.wire.retained.get(topic("kitchen-1"))

    @property
    def times(self) -> int:
        """Return how often something was announced, or taken back."""
        return len(self.wire.payloads(topic("kitchen-1")))

    async def rests(self) -> None:
        await asyncio.sleep(10)


@asynccontextmanager
async def kitchen(wire: Wire | None = None, **hub: Any) -> AsyncIterator[House]:
    """Open a kitchen that Home Assistant can find, and come to rest."""
    house: House
    member: HomeAssistant
    settings = Hub(url="mqtts://hub.local", home="ours", **hub)
    link = (wire or Wire()).link_of(
        settings,
        "kitchen-1",
        lambda: house.presence,
        TOPICS.device("kitchen-1", "presence"),
        on_change=lambda up: member.link_changed(up),
    )
    house = House(link.wire, link)
    member = HomeAssistant(link, settings, lambda: house.presence)
    async with beside(member.run(), "home assistant"), beside(link.run(), "link"):
        await house.rests()
        yield house


def test_a_room_is_announced_and_the_broker_keeps_it(run: Run[None]) -> None:
    async def main() -> None:
        async with kitchen() as house:
            assert house.kept == payload(TOPICS, KITCHEN, shares_texts=False)
            assert house.times == 1

    run(main())


def test_what_the_broker_keeps_is_not_announced_again(run: Run[None]) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(wire) as house:
            house.link.cut()
            await house.rests()
            house.link.mend()
            wire.publish(STATUS, b"online")
            await house.rests()
            assert house.times == 1
        async with kitchen(wire) as house:
            assert house.times == 1, "nor by the next run of the program"

    run(main())


def test_what_the_broker_has_forgotten_is_announced_again(run: Run[None]) -> None:
    async def main() -> None:
        async with kitchen() as house:
            house.link.cut()
            house.wire.retained.clear()
            house.link.mend()
            await house.rests()
            assert house.kept == payload(TOPICS, KITCHEN, shares_texts=False)

    run(main())


def test_what_has_changed_is_announced_again(run: Run[None]) -> None:
    async def main() -> None:
        async with kitchen() as house:
            house.presence = KITCHEN.model_copy(update={"personas": ("companion", "chef", "bard")})
            await house.link.publish(TOPICS.device("kitchen-1", "presence"), house.presence, retain=True)
            await house.rests()
            assert b'"bard"' in (house.kept or b"")
            assert house.times == 2

    run(main())


def test_who_deletes_the_device_has_peace_until_home_assistant_starts_anew(run: Run[None]) -> None:
    async def main() -> None:
        async with kitchen() as house:
            house.wire.publish(topic("kitchen-1"), b"", retain=True)
            await house.rests()
            assert house.kept is None
            house.wire.publish(STATUS, b"offline")
            await house.rests()
            assert house.kept is None
            house.wire.publish(STATUS, b"online")
            await house.rests()
            assert house.kept == payload(TOPICS, KITCHEN, shares_texts=False)

    run(main())


def test_a_household_that_wants_no_home_assistant_takes_back_what_was_announced(run: Run[None]) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(wire) as house:
            assert house.kept
        async with kitchen(wire, home_assistant=False) as house:
            assert house.kept is None
            assert house.times == 2
            wire.publish(STATUS, b"online")
            await house.rests()
        async with kitchen(wire, home_assistant=False) as house:
            assert house.times == 2, "there is nothing to take back any more"

    run(main())


def test_texts_that_the_household_shares_are_shown(run: Run[None]) -> None:
    async def main() -> None:
        async with kitchen(share_texts=True) as house:
            assert house.kept == payload(TOPICS, KITCHEN, shares_texts=True)

    run(main())
