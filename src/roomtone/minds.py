"""What a room thinks with: language models, memory, tools and servers, opened together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.persona import Egress
from roomtone.engines.embed import Embed
from roomtone.flow import Feed, beside
from roomtone.llm_router import Router, open_router
from roomtone.mcp_servers import Servers
from roomtone.memories import open_embed, open_memory
from roomtone.mind.context import Budget, Counted
from roomtone.mind.errands import Abilities
from roomtone.mind.memory import Memory
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings
from roomtone.mind.talking import Talk
from roomtone.mind.toolbox import Toolbox
from roomtone.outbound.accounts import Accounts
from roomtone.outbound.ledger import Ledger
from roomtone.outbound.receipt import Receipts
from roomtone.routines import SHIPPED, Routines
from roomtone.settings import Settings
from roomtone.store import Store
from roomtone.tool_runs import ToolRuns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Minds:
    """What all personas of a room think with. ``talk`` is None where there is no language model."""

    router: Router
    talk: Talk | None
    embed: Embed | None
    memory: Memory
    tools: Toolbox
    abilities: Abilities
    servers: Servers
    ledger: Ledger
    receipts: Receipts
    accounts: Accounts
    routines: Routines
    max_parallel: int
    anticipates: bool
    window: int


@asynccontextmanager
async def open_minds(
    settings: Settings,
    store: Store,
    feed: Feed,
    phrases: Phrases,
    is_idle: Callable[[], bool],
    knows_the_time: Callable[[], bool],
) -> AsyncIterator[Minds]:
    """Open all of it, and keep it in order for as long as the context lasts.

    What cannot be opened is left out, with a line in the log. Raises ConfigError for a memory that there is not.
    """

    def publish(kind: str, data: Any) -> None:
        feed.publish(kind, data, source="minds")

    async with AsyncExitStack() as stack:
        ledger = Ledger(store)
        await stack.enter_async_context(beside(ledger.run(), "ledger"))
        accounts, receipts = Accounts(ledger, settings.zone), Receipts(ledger, feed)
        stack.enter_context(outbound.within(Egress.ANY, receipts.note()))  # what is sent outside of any turn
        await stack.enter_async_context(beside(outbound.keep_looking_up(), "names"))
        router = await stack.enter_async_context(
            open_router(settings, phrases.language.prompt["go_on"], accounts, publish)
        )
        embed = await stack.enter_async_context(open_embed(settings))
        memory = await stack.enter_async_context(open_memory(settings, store, publish, embed=embed, is_idle=is_idle))
        servers = Servers(settings.mcp, publish, offline=settings.features.offline_mode)
        await stack.enter_async_context(beside(servers.run(), "MCP servers"))
        await stack.enter_async_context(beside(router.recover(), "language models"))
        abilities = Abilities(servers.tools)
        tools = Toolbox(abilities.tools, ToolRuns(store), lambda run: publish("tool.run", run), phrases)
        yield Minds(
            router=router,
            talk=_talk(settings, router, tools, memory, knows_the_time) if router.places else None,
            memory=memory,
            embed=embed,
            tools=tools,
            abilities=abilities,
            servers=servers,
            ledger=ledger,
            receipts=receipts,
            accounts=accounts,
            routines=routines_of(settings, store.path.parent, log.warning),
            max_parallel=settings.routines.max_parallel,
            anticipates=settings.llm.anticipate,
            window=settings.llm.messages,
        )


def routines_of(settings: Settings, state_dir: Path, warn: Callable[[str], None] = lambda _: None) -> Routines:
    """Return the household's routines, in its own folder or beside its state, and those that came with Roomtone."""
    return Routines([settings.routines.dir or state_dir / "routines", SHIPPED], warn)


def _talk(
    settings: Settings, router: Router, tools: Toolbox, memory: Memory, knows_the_time: Callable[[], bool]
) -> Talk:
    household = settings.household

    def where() -> Surroundings:
        now = utc_now().astimezone(settings.zone)
        room = settings.device.room
        return Surroundings(room, now, household.names, household.preferences, known=knows_the_time())

    return Talk(
        llm=router,
        where=where,
        tools=tools,
        memory=memory,
        count=Counted(router.count) if router.count is not None else None,
        answers=router.answers,
        context=router.context_of,
        budget=Budget(settings.llm.messages, settings.llm.tokens),
        route=router.route_of,
    )
