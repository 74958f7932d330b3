"""The rooms of the house and the arrows between them, drawn from the imports: a new arrow is a decision."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "roomtone"

FLOORS = """
    cli
    commands
    support_bundle
    doctor
    bench
    demo hearing asking asking_store
    daemon rehearsal timeline
    morning joining first_boot upkeep answers
    app hub
    metrics loopback
    conversation
    hosting moving intercom
    switching parts
    hand
    personas/cast recorder personas/answers memories/answers routines/answers
    ears turn
    household mouth utterance overhearing
    routines/runs
    minds
    timers handoff
    personas/versions tool_runs writing
    edges
    boards
    control quiet link enrolling loudness refuge
    llm_router memories past routines mcp_servers
    failover history personas outbound/accounts outbound/receipt
    discovery clock_trust own_words
    personas/reading outbound/ledger
    mind store logs stopwatch model_supply
    config
    settings database
    config_sources migrations shipped personas/files credentials state_swap
    engines
    outbound
    child flow models wyoming_events installed
    clock child_main scripted_provider durable
    core
"""
"""Arrows point down only: a room knows the floors below its own, never its own floor or one above.

A folder is one room, except where its files stand on floors of their own; its ``__init__.py`` has its name then.
"""

ONLY = {
    "core": "",
    "clock": "core",
    "flow": "core clock",
    "child": "core clock child_main",
    "child_main": "core",
    "engines": "core clock installed flow child child_main models wyoming_events outbound",
    "outbound": "core clock",
    "models": "core clock durable",
    "wyoming_events": "core clock",
    "scripted_provider": "core",
    "model_supply": "core installed engines models config_sources shipped outbound",
    "failover": "core clock flow engines settings outbound",
    "mind": "core flow clock engines shipped outbound",
    "store": "core flow database",
    "database": "core migrations",
    "personas": "core mind personas/files personas/reading",
    "personas/reading": "core mind config_sources personas/files",
    "personas/files": "core",
    "edges": "core flow clock engines wyoming_events control store personas settings quiet boards link discovery "
    "mind outbound credentials durable",
    "boards": "core",
    "loudness": "core engines store",
    "control": "core clock state_swap",
    "state_swap": "durable",
    "link": "core clock installed flow database store settings outbound discovery",
    "discovery": "core clock flow installed settings",
    "hub": "core clock flow link discovery control edges database migrations settings shipped state_swap "
    "config_sources outbound credentials durable enrolling",
    "durable": "",
    "credentials": "",
    "enrolling": "core clock flow settings credentials discovery durable",
    "cli": "commands config core",
}
"""Rooms with a shorter list than their floor gives them. Edges above all: they never know the conversation.

An edge knows the engines' seams, not the engines: the Wyoming server is handed two to lend to the house.
"""

FLOOR = {room: number for number, line in enumerate(FLOORS.split("\n")) for room in line.split()}


def imports(file: Path) -> Iterator[str]:
    """List the modules of Roomtone's that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides an arrow"
            whole = node.module or ""
            names = [f"{whole}.{alias.name}" for alias in node.names] if _is_package(whole) else [whole]
        else:
            continue
        yield from (name for name in names if name.startswith("roomtone."))


def _is_package(module: str) -> bool:
    return (SOURCE.parent / module.replace(".", "/")).is_dir()


def room(file: Path) -> str:
    """Name the room that a file stands in, or is."""
    return of(file.relative_to(SOURCE).with_suffix("").parts)


def of(parts: tuple[str, ...]) -> str:
    """Name the room of a module by its name without the leading ``roomtone``; a room within a folder goes first."""
    return nested if (nested := "/".join(parts[:2])) in FLOOR else parts[0]


@functools.cache
def arrows() -> frozenset[tuple[str, str]]:
    found = set()
    for file in SOURCE.rglob("*.py"):
        for name in imports(file):
            target = of(tuple(name.split(".")[1:]))
            if target != room(file) and target != "__version__":
                found.add((room(file), target))
    return frozenset(found)


def rooms() -> set[str]:
    return {room(file) for file in SOURCE.rglob("*.py")} - {"__init__"}


def test_every_room_stands_on_a_floor() -> None:
    assert rooms() <= FLOOR.keys(), "say in FLOORS where the new room stands"


def test_arrows_point_down_only() -> None:
    up = {f"{one} -> {other}" for one, other in arrows() if FLOOR[one] >= FLOOR[other]}
    assert not up


@pytest.mark.parametrize("one", sorted(ONLY))
def test_a_room_with_a_short_list_keeps_to_it(one: str) -> None:
    known = {other for start, other in arrows() if start == one}
    assert known <= set(ONLY[one].split())


def test_engines_never_import_each_other() -> None:
    for file in (SOURCE / "engines").rglob("*.py"):
        own = file.relative_to(SOURCE / "engines").parts
        for name in imports(file):
            path = name.split(".")[2:]
            if name.split(".")[1] != "engines" or not path or not (SOURCE / "engines" / path[0]).is_dir():
                continue
            assert path[0] == own[0], f"{file}: {name} is another seam"
            engine = path[1] if len(path) > 1 else ""
            is_engine = (SOURCE / "engines" / path[0] / f"{engine}.py").exists() and not engine.startswith("_")
            assert not is_engine, f"{file}: {name} is another engine"


def test_the_core_does_no_io_and_waits_for_nothing() -> None:
    banned = {"asyncio", "os", "pathlib", "shutil", "socket", "sqlite3", "subprocess", "time"}
    for file in (SOURCE / "core").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not banned & {alias.name.split(".")[0] for alias in node.names}, file
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in banned, file


def test_an_arrow_is_seen_wherever_it_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "room.py"
    drawn = (
        "import roomtone.store",
        "def later():",
        "    from roomtone import app, mouth",
        "    from roomtone.core import sound",
    )
    file.write_text("\n".join(drawn))
    assert list(imports(file)) == ["roomtone.store", "roomtone.app", "roomtone.mouth", "roomtone.core.sound"]
