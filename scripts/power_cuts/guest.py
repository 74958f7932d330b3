"""What runs inside the virtual machine: says what a power cut has left, then talks with the room until the next one.

Each thing that happened is one line of JSON on a serial port, which the host keeps. ``answered`` means that the room
has: nothing is written that was not promised. Needs Python alone, no Roomtone: it must see what a stranger would see.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/roomtone")
STORE = STATE / "roomtone.db"
CONTROL = "/run/roomtone/control.sock"
PORT = "/dev/ttyS1"
BEGAN = Path("/run/power-cuts-began")

COLOURS = ("green", "red", "black", "white", "brown", "yellow")
DISHES = ("tea", "rice", "cake", "soup", "bread", "pasta", "fish", "bean")
QUESTIONS = (
    "what time is it",
    "what can you do",
    "what timers do i have",
    "tell me a joke",
    "read the shopping list",
)
LENGTHS = ((20, "seconds"), (45, "seconds"), (3, "minutes"), (25, "minutes"), (2, "hours"))
TOGETHER = 4
"""Timers that run at once: all that came due while the power was off are then named one by one."""

RINGS_S = 3.0
QUIET_S = 5.0
SETTLES_S = 60.0
STARTS_S = 60
"""Within this all is written that a start has left to write."""

IDLE_S = 120
RINGS = re.compile(r"\b(?:is|are) done\b|reminder", re.IGNORECASE)
ANSWERED = ("trace", "intent", "heard", "said", "spoken", "ended")


def tell(kind: str, **what: Any) -> None:
    """Write a line for the host, with the times of this machine's clock and since its start."""
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    line = json.dumps({"kind": kind, "now": datetime.now(UTC).isoformat(), "up": round(up, 2), **what})
    with TELLING, open(PORT, "w") as port:
        port.write(line + "\n")


TELLING = threading.Lock()


def request(command: str, patience_s: float = 600.0, **keys: Any) -> dict[str, Any]:
    """Ask the daemon, and return its last line."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.settimeout(patience_s)
        daemon.connect(CONTROL)
        daemon.sendall(json.dumps({"command": command, **keys}).encode() + b"\n")
        with daemon.makefile() as lines:
            answers: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return answers[-1] if answers else {"error": "no answer"}


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=60)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(query)]
    finally:
        connection.close()


def turns(store: Path, since: str = "") -> list[dict[str, Any]]:
    """Return the turns from a moment on (ISO 8601), the oldest first."""
    kept = ("trace", "source", "heard", "said", "spoken", "ended", "stage")
    found = rows(store, "SELECT closed, at, data FROM turns ORDER BY at, rowid")
    return [
        {"closed": bool(row["closed"]), **{key: json.loads(row["data"])[key] for key in kept}}
        for row in found
        if row["at"] >= since
    ]


def timers(store: Path) -> list[dict[str, Any]]:
    return rows(store, "SELECT kind, name, seconds, due, missed, paused_s FROM timers")


def found() -> None:
    """Say what the power cut has left, before the daemon sees it: looked at in a copy, so that nothing is mended."""
    BEGAN.write_text(datetime.now(UTC).isoformat())
    what: dict[str, Any] = {"files": sorted(path.name for path in STATE.iterdir()) if STATE.is_dir() else []}
    if STORE.exists():
        with tempfile.TemporaryDirectory(dir="/run") as folder:
            copy = Path(folder) / STORE.name
            for suffix in ("", "-wal"):
                if (part := STORE.with_name(STORE.name + suffix)).exists():
                    shutil.copy(part, copy.with_name(copy.name + suffix))
            connection = sqlite3.connect(copy)
            what["integrity"] = connection.execute("PRAGMA integrity_check").fetchone()[0]
            connection.close()
            items = rows(copy, "SELECT text FROM items WHERE removed IS NULL")
            what |= {"timers": timers(copy), "turns": turns(copy), "items": [row["text"] for row in items]}
    tell("found", **what)


def talk(seed: int, *, idle: bool) -> None:
    """Tell how the room is after its start, then talk with it until the power goes."""
    health = request("status")["result"]["health"]
    tell("ready", health=health, active_s=round(int(of_unit("ActiveEnterTimestampMonotonic") or 0) / 1e6, 2))
    threading.Thread(target=stop_what_rings, daemon=True).start()
    settle()
    told = [turn for turn in turns(STORE, BEGAN.read_text()) if turn["source"] == "schedule"]
    tell("settled", turns=told, timers=timers(STORE))
    if idle:
        rest()
    chance = random.Random(seed)
    while True:
        kind, name, text = next_request(chance, timers(STORE))
        tell("asked", what=kind, name=name, text=text)
        answer = request("ask", text=text)
        turn = {key: (answer.get("result") or {}).get(key) for key in ANSWERED}
        tell("answered", what=kind, name=name, error=answer.get("error"), **turn)
        time.sleep(chance.uniform(0, 3))


def of_unit(property_: str) -> str:
    command = ["systemctl", "show", "-P", property_, "roomtone"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def settle() -> None:
    """Wait until the room has told all that it wanted to."""
    quiet, end = 0.0, time.monotonic() + SETTLES_S
    while quiet < QUIET_S and time.monotonic() < end:
        time.sleep(0.5)
        quiet = 0.0 if speaking() else quiet + 0.5


def speaking() -> list[dict[str, Any]]:
    """Return the turns that go on now."""
    if not STORE.exists():
        return []
    return [json.loads(row["data"]) for row in rows(STORE, "SELECT data FROM turns WHERE NOT closed")]


def stop_what_rings() -> None:
    """Do as somebody would who hears an alarm: let it ring a moment, and say stop."""
    while True:
        time.sleep(1)
        rings = [turn["said"] for turn in speaking() if turn["source"] == "schedule" and RINGS.search(turn["said"])]
        if rings:
            time.sleep(RINGS_S)
            request("stop")
            tell("stopped", said=rings)
            time.sleep(2)


def next_request(chance: random.Random, running: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Return what is asked for next: what it is, what it is about, and the words."""
    names = [timer["name"] for timer in running]
    called = [f"{colour} {dish}" for colour in COLOURS for dish in DISHES if f"{colour} {dish}" not in names]
    name, draw = chance.choice(called), chance.random()
    if len(running) >= TOGETHER:
        cancelled = chance.choice([timer for timer in running if timer["kind"] == "timer"] or running)
        return "cancel", cancelled["name"], f"cancel the {cancelled['name']} timer"
    if draw < 0.45:
        count, unit = chance.choice(LENGTHS)
        return "timer", name, f"set a {name} timer for {count} {unit}"
    if draw < 0.6:
        return "reminder", f"eat the {name}", f"remind me to eat the {name} in {chance.choice((2, 30))} minutes"
    if draw < 0.8:
        return "item", name, f"add {name} to the shopping list"
    return "question", "", chance.choice(QUESTIONS)


def rest() -> None:
    """Say what reaches the disk while nothing happens."""
    pid = of_unit("MainPID")
    time.sleep(STARTS_S)
    before = written(pid)
    time.sleep(IDLE_S)
    after = written(pid)
    tell("rested", seconds=IDLE_S, **{key: after[key] - before[key] for key in after})


def written(pid: str) -> dict[str, int]:
    """Return the bytes written so far: by the daemon, and to the disk by all there is."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    disk = Path("/sys/block/vda/stat").read_text().split()
    return {"daemon": int(fields["write_bytes"]), "disk": int(disk[6]) * 512}


def main() -> None:
    arguments = dict(word.split("=", 1) for word in Path("/proc/cmdline").read_text().split() if "=" in word)
    if sys.argv[1] == "found":
        found()
    else:
        talk(int(arguments["cuts.seed"]), idle=arguments.get("cuts.idle") == "1")


if __name__ == "__main__":
    os.nice(1)  # the room comes first
    main()
