"""A mind in a simulated room: an answer that outlives its model, a memory that outlives a restart, a morning told.

Two language models are scripted, on loopback: real HTTP, real streams, and one that breaks off in mid-sentence. The
services behind the morning are real MCP servers. In a checkout with llama.cpp a third model runs on this machine: the
small one of the tests, as the persona it was trained for. Whoever speaks is heard by a recogniser that knows what
comes, since free speech needs a download.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roomtone.core.dialog import Ended, Turn
from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import RATE, Audio, join
from roomtone.demo.house import KNOWS
from roomtone.demo.visits import ANNA, BEN, COMPLETED, Visitor, spoken_by
from roomtone.engines import lacking
from roomtone.rehearsal import Rehearsal
from roomtone.scripted_provider import Reply, Request, provider
from roomtone.settings import Settings
from roomtone.shipped import PACKAGE

SKY = (
    "Sunlight is made of all colours, and the air scatters the blue part of it far more than the red. "
    "So blue light comes to your eyes from every side, and the whole sky looks blue."
)
DIES_AFTER = 22
"""Words of it after which the first model breaks off."""

SAYS_AGAIN = 4
"""Words that the second model says again before it goes on; nobody is to hear them twice."""

CAT = "The cat is called Minka; you told me so."
MORNING = "Good morning! It rains until noon, the dentist waits at half past ten, and the old tram line opens again."
UNKNOWN = "I do not know that."

LOCAL_MODEL = PACKAGE.parent.parent / "tests" / "models" / "llama" / "fixture-chat-q8_0.gguf"

PIRATE = """
name: Pirate
tools: []
llm: {route: [here], temperature: 0, max_response_tokens: 60}
"""

BETWEEN_VISITS_S, SERVICES_S = 0.5, 60.0

Opens = Callable[[Path, Settings], AbstractAsyncContextManager[Rehearsal]]
Show = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Says:
    """Somebody says something, and what should come of it: fields of the turn, and all that it says."""

    visitor: Visitor
    text: str
    expects: dict[str, Any]
    says: str | None = None


EVENING = (
    Says(ANNA, "why is the sky blue", {"answered_by": "llm:spare", **COMPLETED}, SKY),
    Says(BEN, "remember that the cat is called Minka", {"answered_by": "skill", **COMPLETED}),
)
NEXT_DAY = (
    Says(BEN, "what is our cat called again", {"answered_by": "llm:house", **COMPLETED}, CAT),
    Says(ANNA, "start the morning routine", {"ended": Ended.COMPLETED}, MORNING),
    Says(BEN, "what did you send out today", {"answered_by": "skill", **COMPLETED}),
)
WITH_THE_PIRATE = (
    Says(ANNA, "let me talk to the pirate", {"intent": "persona.switch", **COMPLETED}),
    Says(
        ANNA,
        "What is the capital of France?",
        {"answered_by": "llm:here", "persona": "pirate", **COMPLETED},
        "Arr! The capital of France is Paris.",
    ),
)


def house_model(request: Request) -> Reply:
    """Answer as the model in the house: it knows about the sky, and breaks off in the middle of that."""
    asked = _last(request.body)
    if "sky" in asked:
        return Reply(SKY, dies_after_words=DIES_AFTER, delta_s=0.02)
    if "cat called" in asked:
        return Reply(CAT if "Minka" in json.dumps(request.body) else UNKNOWN)
    known = [says for _, says, _ in KNOWS.values()]
    return Reply(MORNING if all(says in json.dumps(request.body) for says in known) else UNKNOWN)


def spare_model(request: Request) -> Reply:
    """Answer as the model that stands in: it goes on where the other one broke off, and says some words again."""
    said = " ".join(_said_before(request.body).split())
    words = SKY.split()
    begun = next((n for n in range(len(words), 0, -1) if said.endswith(" ".join(words[:n]))), 0)
    return Reply(" ".join(words[max(0, begun - SAYS_AGAIN) :]))


def _last(body: dict[str, Any]) -> str:
    return _text(body["messages"][-1]["content"])


def _said_before(body: dict[str, Any]) -> str:
    said = [_text(message["content"]) for message in body["messages"] if message["role"] == "assistant"]
    return said[-1] if said else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content)


@contextmanager
def settings_for(settings: Settings) -> Iterator[Settings]:
    """Give the household of the scene, its models running for as long as the context lasts.

    Raises EngineUnavailable where a package is missing.
    """
    for module, extra in (("openai", "cloud"), ("anthropic", "cloud"), ("mcp", "mcp")):
        if (reason := lacking(module, extra)) is not None:
            raise EngineUnavailable(f"--scene mind: {reason}")
    with provider(house_model) as house, provider(spare_model) as spare:
        models = {
            "house": {"engine": "openai", "base_url": house.url, "model": "scripted", "api_key": "none"},
            "spare": {"engine": "anthropic", "base_url": spare.url.removesuffix("/v1"), "model": "scripted"},
        }
        models["spare"]["api_key"] = "none"
        if has_local_model():
            models["here"] = {"engine": "llama_cpp", "model": str(LOCAL_MODEL)}
        servers = {
            name: {"command": sys.executable, "args": ["-m", "roomtone.demo.house", name], "reach": "none"}
            for name in KNOWS
        }
        changes = {
            "listen": {"mode": "open"},
            "llm": {"route": ["house", "spare"], "providers": models},
            "mcp": servers,
        }
        of_the_scene = Settings.model_validate(changes)
        yield settings.model_copy(update={key: getattr(of_the_scene, key) for key in changes})


def has_local_model() -> bool:
    """Say whether a model can run on this machine."""
    return LOCAL_MODEL.is_file() and lacking("llama_cpp", "llama") is None


def hearing(settings: Settings, part: tuple[Says, ...]) -> Settings:
    """Return settings with a recogniser that knows what will be said."""
    heard = Settings.model_validate(
        {"stt": {"engine": "script", "whole_partials": True, "texts": [says.text for says in part]}}
    )
    return settings.model_copy(update={"stt": heard.stt})


class Scene:
    """Plays it; ``wrong`` has what did not go as expected, a line each."""

    def __init__(self, settings: Settings, opens: Opens, show: Show) -> None:
        self.wrong: list[str] = []
        self.turns: list[Turn] = []
        self.recordings: list[Audio] = []
        self._settings = settings
        self._opens = opens
        self._show = show

    async def play(self, folder: Path) -> None:
        """Play it in two rooms, one after the other, that keep their state in a folder."""
        pirate = folder / "personas" / "pirate"
        pirate.mkdir(parents=True)
        (pirate / "config.yaml").write_text(PIRATE, "utf-8")
        (pirate / "system_prompt.md").write_text("You are a pirate.", "utf-8")
        await self._part(folder, EVENING)
        self._show("Roomtone", "is switched off and on again")
        await self._part(folder, (*NEXT_DAY, *(WITH_THE_PIRATE if has_local_model() else ())))

    async def _part(self, folder: Path, part: tuple[Says, ...]) -> None:
        async with self._opens(folder, hearing(self._settings, part)) as rehearsal:
            try:
                await self._services(rehearsal)
                for says in part:
                    await self._visit(says, rehearsal)
            finally:
                self.turns += rehearsal.turns
                self.recordings.append(rehearsal.device.recording)

    async def _services(self, rehearsal: Rehearsal) -> None:
        """Wait until the household's services are there, as they are long before anybody speaks."""
        servers = rehearsal.room.parts.minds.servers
        async with asyncio.timeout(SERVICES_S):
            while len(servers.tools()) < len(KNOWS):
                await rehearsal.next_event()

    async def _visit(self, says: Says, rehearsal: Rehearsal) -> None:
        await asyncio.sleep(BETWEEN_VISITS_S)
        self._show(says.visitor.name, says.text)
        sound = await spoken_by(says.visitor, says.text, rehearsal.room.synthesiser)
        rehearsal.device.visit(sound, says.visitor.distance_m)
        turns = await rehearsal.at_rest()
        if len(turns) != 1:
            self.wrong.append(f"{says.visitor.name} ({says.text}): {len(turns)} turns came of it, not 1")
        for turn in turns[:1]:
            self._judge(says, turn)

    def _judge(self, says: Says, turn: Turn) -> None:
        who = f"{says.visitor.name} ({says.text})"
        self.wrong += [
            f"{who}: {key} is {getattr(turn, key)!r}, not {value!r}"
            for key, value in says.expects.items()
            if getattr(turn, key) != value
        ]
        if says.says is not None and _words(turn.spoken) != _words(says.says):
            self.wrong.append(f"{who}: {turn.spoken!r} was said, not {says.says!r}")

    def recording(self) -> Audio:
        """Return all that was heard in the room."""
        return join(self.recordings, RATE)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
