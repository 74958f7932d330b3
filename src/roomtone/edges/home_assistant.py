"""Home Assistant finds this room by MQTT discovery: one retained payload says what can be seen and done here.

Home Assistant reads the room's own topics (presence, state, turn) by templates in that payload, and writes commands
as any other may. So nothing runs for it but this: the payload is announced where it is not there yet, or is not what
the broker keeps. The form is that of https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, which
Home Assistant reads since 2024.11.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from roomtone.core.dialog import Ended
from roomtone.core.errors import BrokerUnreachable, HouseError
from roomtone.core.machine import Mode
from roomtone.core.wire import VERSION, Presence, Topics
from roomtone.link import Inbound, Link
from roomtone.settings import Hub

log = logging.getLogger(__name__)

STATUS = "homeassistant/status"
"""Where Home Assistant says that it has come, or gone."""

SETTLE_S = 1.0
"""So long after the link is up the broker has sent what it keeps; only then it is known whether that is right."""

A_DAY_MIN = 24 * 60
"""Do not disturb has no end in Home Assistant; a room keeps quiet for no longer than this."""

LONGEST = 255
"""Characters of the longest state that Home Assistant takes; an attribute may be longer."""

NAMES = {
    "state": "State",
    "heard": "Last heard",
    "said": "Last said",
    "timers": "Timers",
    "next_timer": "Next timer",
    "turn": "Turn",
    "problem": "Problem",
    "room": "Room",
    "version": "Version",
    "persona": "Persona",
    "volume": "Volume",
    "microphone": "Microphone",
    "quiet": "Do not disturb",
    "listen": "Listen",
    "stop": "Stop",
    "say": "Say",
    "say_urgently": "Say, quiet hours or not",
    "ask": "Ask",
}
"""What a household reads, by the component; Home Assistant puts the device's name before it."""

Component = dict[str, Any]


# ------------------------------------------------------------------------------------------- payload


def topic(device: str) -> str:
    """Return where a device's discovery payload is kept."""
    return f"homeassistant/device/{device}/config"


def payload(topics: Topics, presence: Presence, *, shares_texts: bool) -> bytes:
    """Write the discovery payload (JSON) of the device that a presence tells of; the same one for the same facts."""
    return json.dumps(discovery(topics, presence, shares_texts=shares_texts), ensure_ascii=False).encode()


def discovery(topics: Topics, presence: Presence, *, shares_texts: bool) -> dict[str, Any]:
    """Return the discovery payload of a device. Without ``shares_texts`` nothing in it shows what was said."""
    name = presence.name or presence.room or presence.id
    room = presence.room or ""
    return {
        "device": {
            "identifiers": [f"roomtone_{presence.id}"],
            "name": name,
            "manufacturer": "Roomtone",
            "model": "Room",
            "sw_version": presence.version,
            "suggested_area": room[:1].upper() + room[1:],
        },
        "origin": {"name": "Roomtone", "sw_version": presence.version},
        "availability": [
            {
                "topic": topics.device(presence.id, "presence"),
                "value_template": _template("'online' if value_json is defined and value_json.online else 'offline'"),
            }
        ],
        "components": _components(topics, presence, shares_texts),
    }


def _components(topics: Topics, presence: Presence, shares_texts: bool) -> dict[str, Component]:
    state, shown, turn, command = (topics.device(presence.id, it) for it in ("state", "presence", "turn", "command"))
    made = {
        **_states(state, shares_texts),
        **_texts(state, turn, shares_texts),
        **_diagnostics(state, shown),
        **_settings(state, command, presence.personas),
        **_orders(command),
    }
    return {key: _whole(presence.id, key, each) for key, each in made.items()}


def _whole(device: str, key: str, component: Component) -> Component:
    """Add what each has; one that has its platform alone takes back what was announced before."""
    if len(component) == 1:
        return component
    return {**component, "name": NAMES[key], "unique_id": f"roomtone_{device}_{key}", "qos": 1}


# ------------------------------------------------------------------------------------- what is shown


def _template(expression: str) -> str:
    return f"{{{{ {expression} }}}}"


def _seen(platform: str, topic: str, expression: str, icon: str | None = None, **more: Any) -> Component:
    """Describe what shows an expression over ``value_json``, what came to the topic."""
    looks = {"icon": f"mdi:{icon}"} if icon else {}
    return {"platform": platform, "state_topic": topic, "value_template": _template(expression), **looks, **more}


def _beside(topic: str, facts: str) -> Component:
    """Describe attributes, by expressions."""
    return {"json_attributes_topic": topic, "json_attributes_template": _template(f"{{{facts}}} | to_json")}


def _states(state: str, shares_texts: bool) -> dict[str, Component]:
    modes = [mode.value for mode in Mode]
    timers = "value_json.timers | rejectattr('missed')"
    due = f"{timers} | selectattr('paused_s', 'none') | map(attribute='due') | sort"
    names = _beside(state, f"'timers': {timers} | map(attribute='name') | list") if shares_texts else {}
    counted = {"state_class": "measurement", **names}
    return {
        "state": _seen("sensor", state, "value_json.state", "account-voice", device_class="enum", options=modes),
        "next_timer": _seen("sensor", state, f"({due} + ['None'])[0]", device_class="timestamp"),
        "timers": _seen("sensor", state, f"{timers} | list | count", "timer-sand", **counted),
    }


def _texts(state: str, turn: str, shares_texts: bool) -> dict[str, Component]:
    """Describe what was said, and each finished turn as an event, on which an automation may act."""
    told = ["persona", "source", "intent", "answered_by", *(["heard", "spoken"] if shares_texts else [])]
    data = ", ".join(f"'{key}': value_json.{key}" for key in told)
    event = f"{{'event_type': value_json.ended, {data}}} | to_json"
    return {
        "heard": _text(state, "heard", "ear-hearing") if shares_texts else {"platform": "sensor"},
        "said": _text(state, "said", "message-text") if shares_texts else {"platform": "sensor"},
        "turn": _seen("event", turn, event, "message-processing", event_types=[ended.value for ended in Ended]),
    }


def _text(state: str, key: str, icon: str) -> Component:
    whole = _beside(state, f"'text': value_json.{key}")
    return _seen("sensor", state, f"value_json.{key}[:{LONGEST}] or 'None'", icon, **whole)


def _diagnostics(state: str, presence: str) -> dict[str, Component]:
    hidden = {"entity_category": "diagnostic", "enabled_by_default": False}
    trouble = {"entity_category": "diagnostic", "device_class": "problem"}
    return {
        "problem": _seen("binary_sensor", state, "'OFF' if value_json.serves else 'ON'", **trouble),
        "room": _seen("sensor", presence, "value_json.room", "door", **hidden),
        "version": _seen("sensor", presence, "value_json.version", "tag", **hidden),
    }


# ------------------------------------------------------------------------------------ what is ordered


def _command(topic: str, do: str, **fields: str) -> Component:
    """Describe a command; a field's text is an expression over Home Assistant's ``value``.

    Its id is the moment at which it was rendered, so one that the broker delivers twice is obeyed once.
    """
    fields = {"v": str(VERSION), "do": f"'{do}'", "id": f"'ha-{do}-' ~ now().timestamp()", **fields}
    written = "{" + ", ".join(f"'{key}': {each}" for key, each in fields.items()) + "}"
    return {"command_topic": topic, "command_template": _template(f"{written} | to_json")}


def _settings(state: str, command: str, personas: tuple[str, ...]) -> dict[str, Component]:
    persona = _command(command, "persona", persona="value") | {"options": list(personas)}
    volume = _command(command, "volume", volume="(value | float) / 100") | {
        "min": 0,
        "max": 100,
        "step": 1,
        "mode": "slider",
        "unit_of_measurement": "%",
    }
    mute = _command(command, "mute", muted="value == 'OFF'")
    quiet = _command(command, "quiet", minutes=f"{A_DAY_MIN} if value == 'ON' else 0")
    chosen = _seen("select", state, "value_json.persona or 'None'", "account-switch", **persona)
    return {
        "persona": chosen if personas else {"platform": "select"},
        "volume": _seen("number", state, "(value_json.volume * 100) | round | int", "volume-high", **volume),
        "microphone": _seen("switch", state, "'OFF' if value_json.muted else 'ON'", "microphone", **mute),
        "quiet": _seen("switch", state, "'ON' if value_json.quiet else 'OFF'", "minus-circle", **quiet),
    }


def _orders(command: str) -> dict[str, Component]:
    urgent = _command(command, "say", text="value", chime="true", urgent="true")
    ask = _command(command, "ask", text="value") | {"min": 1, "max": LONGEST}
    return {
        "listen": {"platform": "button", "icon": "mdi:microphone-message", **_command(command, "listen")},
        "stop": {"platform": "button", "icon": "mdi:stop", **_command(command, "stop")},
        "say": {"platform": "notify", "icon": "mdi:bullhorn", **_command(command, "say", text="value", chime="true")},
        "say_urgently": {"platform": "notify", "icon": "mdi:bullhorn-variant", **urgent},
        "ask": {"platform": "text", "icon": "mdi:chat-question", **ask},
    }


# ----------------------------------------------------------------------------------------- announcing


class HomeAssistant:
    """Keeps this room announced to Home Assistant, or unannounced where the household wants that.

    Nothing is sent while what the broker keeps is right. Who deletes the device in Home Assistant takes back what is
    kept; it is announced anew when Home Assistant or this room next comes online, or the room has changed.
    """

    def __init__(self, link: Link, hub: Hub, presence: Callable[[], Presence]) -> None:
        self._link = link
        self._hub = hub
        self._presence = presence
        self._kept = b""
        self._look = asyncio.Event()

    def link_changed(self, up: bool) -> None:
        """Look anew what the broker keeps: it may have forgotten it."""
        if up:
            self._look.set()
        else:
            self._kept = b""

    async def run(self) -> None:
        """Be announced for as long as this runs; it stays so afterwards, and Home Assistant sees who is offline."""
        id_ = self._presence().id
        self._link.on(topic(id_), self._see_kept)
        if self._hub.home_assistant:
            self._link.on(STATUS, self._see_status)
            self._link.on(self._link.topics.device(id_, "presence"), self._see_presence)
        while True:
            await self._look.wait()
            await asyncio.sleep(SETTLE_S)
            self._look.clear()
            await self._settle()

    async def _see_kept(self, message: Inbound) -> None:
        self._kept = message.payload

    async def _see_status(self, message: Inbound) -> None:
        if message.payload == b"online" and not self._kept:
            self._look.set()

    async def _see_presence(self, _: Inbound) -> None:
        self._look.set()

    async def _settle(self) -> None:
        hub, presence = self._hub, self._presence()
        wanted = b""
        if hub.home_assistant:
            wanted = payload(self._link.topics, presence, shares_texts=hub.share_texts)
        if wanted == self._kept:
            return
        try:
            await self._link.publish(topic(presence.id), wanted, retain=True)
        except BrokerUnreachable as error:
            log.debug("Home Assistant is not told: %s", error.message)
        except HouseError as error:
            log.warning("Home Assistant does not find this room: %s", error.message)
        else:
            self._kept = wanted
