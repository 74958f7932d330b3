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
from roomtone.core.errors import BrokerUnreachable
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
                "value_template": _shows("'online' if value_json is defined and value_json.online else 'offline'"),
            }
        ],
        "components": _components(topics, presence, shares_texts),
    }


def _components(topics: Topics, presence: Presence, shares_texts: bool) -> dict[str, Component]:
    made = {
        **_shown(topics.device(presence.id, "state"), shares_texts),
        "turn": _turn(topics.device(presence.id, "turn"), shares_texts),
        **_diagnostics(topics.device(presence.id, "state"), topics.device(presence.id, "presence")),
        **_controls(topics.device(presence.id, "state"), presence.personas),
        **_buttons(),
        **_words(),
    }
    common = {"command_topic": topics.device(presence.id, "command")}
    return {key: _whole(presence.id, key, each, common) for key, each in made.items()}


def _whole(device: str, key: str, component: Component, commanded: Component) -> Component:
    """Add what each has; one that has its platform alone takes back what was announced before."""
    if len(component) == 1:
        return component
    shared = commanded if "command_template" in component else {}
    return {**component, **shared, "name": NAMES[key], "unique_id": f"roomtone_{device}_{key}", "qos": 1}


# ------------------------------------------------------------------------------------- what is shown


def _shows(expression: str) -> str:
    """Write the template of an expression over ``value_json``, what came on the topic."""
    return f"{{{{ {expression} }}}}"


def _shown(state: str, shares_texts: bool) -> dict[str, Component]:
    heard, said = (
        _text(state, key, icon) for key, icon in (("heard", "mdi:ear-hearing"), ("said", "mdi:account-voice"))
    )
    due = "value_json.timers | selectattr('paused_s', 'none') | rejectattr('missed') | map(attribute='due') | sort"
    names = _shows("{'timers': value_json.timers | map(attribute='name') | list} | to_json")
    return {
        "state": {
            "platform": "sensor",
            "state_topic": state,
            "value_template": _shows("value_json.state"),
            "device_class": "enum",
            "options": [mode.value for mode in Mode],
            "icon": "mdi:account-voice",
        },
        "heard": heard if shares_texts else {"platform": "sensor"},
        "said": said if shares_texts else {"platform": "sensor"},
        "timers": {
            "platform": "sensor",
            "state_topic": state,
            "value_template": _shows("value_json.timers | rejectattr('missed') | list | count"),
            "state_class": "measurement",
            "icon": "mdi:timer-sand",
            **({"json_attributes_topic": state, "json_attributes_template": names} if shares_texts else {}),
        },
        "next_timer": {
            "platform": "sensor",
            "state_topic": state,
            "value_template": _shows(f"({due} | list + ['None'])[0]"),
            "device_class": "timestamp",
        },
    }


def _text(state: str, key: str, icon: str) -> Component:
    return {
        "platform": "sensor",
        "state_topic": state,
        "value_template": _shows(f"value_json.{key}[:{LONGEST}] or 'None'"),
        "json_attributes_topic": state,
        "json_attributes_template": _shows(f"{{'text': value_json.{key}}} | to_json"),
        "icon": icon,
    }


def _turn(turn: str, shares_texts: bool) -> Component:
    """A finished turn is an event, on which an automation may act."""
    told = ["persona", "source", "intent", "answered_by", *(["heard", "spoken"] if shares_texts else [])]
    data = ", ".join(f"'{key}': value_json.{key}" for key in told)
    return {
        "platform": "event",
        "state_topic": turn,
        "value_template": _shows(f"{{'event_type': value_json.ended, {data}}} | to_json"),
        "event_types": [ended.value for ended in Ended],
        "icon": "mdi:message-processing",
    }


def _diagnostics(state: str, presence: str) -> dict[str, Component]:
    about = {
        key: {
            "platform": "sensor",
            "state_topic": presence,
            "value_template": _shows(f"value_json.{key}"),
            "entity_category": "diagnostic",
            "enabled_by_default": False,
            "icon": icon,
        }
        for key, icon in (("room", "mdi:door"), ("version", "mdi:tag"))
    }
    problem = {
        "platform": "binary_sensor",
        "state_topic": state,
        "value_template": _shows("'OFF' if value_json.serves else 'ON'"),
        "device_class": "problem",
        "entity_category": "diagnostic",
    }
    return {"problem": problem, **about}


# ------------------------------------------------------------------------------------ what is settled


def _command(do: str, **fields: str) -> str:
    """Write the template of a command; a field's text is an expression over Home Assistant's ``value``.

    Its id is the moment at which it was rendered, so one that the broker delivers twice is obeyed once.
    """
    fields = {"v": str(VERSION), "do": f"'{do}'", "id": f"'ha-{do}-' ~ now().timestamp()", **fields}
    return _shows("{" + ", ".join(f"'{key}': {each}" for key, each in fields.items()) + "} | to_json")


def _controls(state: str, personas: tuple[str, ...]) -> dict[str, Component]:
    persona = {
        "platform": "select",
        "state_topic": state,
        "value_template": _shows("value_json.persona or 'None'"),
        "command_template": _command("persona", persona="value"),
        "options": list(personas),
        "icon": "mdi:account-switch",
    }
    return {
        "persona": persona if personas else {"platform": "select"},
        "volume": {
            "platform": "number",
            "state_topic": state,
            "value_template": _shows("(value_json.volume * 100) | round | int"),
            "command_template": _command("volume", volume="(value | float) / 100"),
            "min": 0,
            "max": 100,
            "step": 1,
            "mode": "slider",
            "unit_of_measurement": "%",
            "icon": "mdi:volume-high",
        },
        "microphone": _switch(
            state, "not value_json.muted", _command("mute", muted="value == 'OFF'"), "mdi:microphone"
        ),
        "quiet": _switch(
            state,
            "value_json.quiet",
            _command("quiet", minutes=f"{A_DAY_MIN} if value == 'ON' else 0"),
            "mdi:minus-circle",
        ),
    }


def _switch(state: str, is_on: str, command: str, icon: str) -> Component:
    return {
        "platform": "switch",
        "state_topic": state,
        "value_template": _shows(f"'ON' if {is_on} else 'OFF'"),
        "command_template": command,
        "icon": icon,
    }


def _buttons() -> dict[str, Component]:
    icons = {"listen": "mdi:microphone-message", "stop": "mdi:stop"}
    return {do: {"platform": "button", "command_template": _command(do), "icon": icon} for do, icon in icons.items()}


def _words() -> dict[str, Component]:
    say = {"text": "value", "chime": "true"}
    return {
        "say": {"platform": "notify", "command_template": _command("say", **say), "icon": "mdi:bullhorn"},
        "say_urgently": {
            "platform": "notify",
            "command_template": _command("say", **say, urgent="true"),
            "icon": "mdi:bullhorn-variant",
        },
        "ask": {
            "platform": "text",
            "command_template": _command("ask", text="value"),
            "min": 1,
            "max": LONGEST,
            "icon": "mdi:chat-question",
        },
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
        else:
            self._kept = wanted
