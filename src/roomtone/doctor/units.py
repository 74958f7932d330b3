"""The service: how systemd finds its units, how the last night's maintenance and the last upgrade went."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from roomtone.doctor.board import ROOT, Ask, ask
from roomtone.doctor.findings import Finding
from roomtone.upkeep import maintenance

SERVICES = ("roomtone.service", "roomtone-hub.service")
"""Those that run for ever."""

UNITS = (*SERVICES, "roomtone-maintenance.service", "roomtone-first-boot.service", "roomtone-trial.service")
TIMER = "roomtone-maintenance.timer"

ASKED = "Id,LoadState,ActiveState,SubState,Result,NRestarts,UnitFileState,WatchdogUSec,StatusText"
SHOW = ("systemctl", "show", "--no-pager", f"--property={ASKED}", *UNITS, TIMER)

RESTLESS = 3
"""A unit that was restarted so often falls over something."""

RESULTS = {
    "watchdog": "it hung, and systemd ended it",
    "oom-kill": "it took more memory than there is",
    "timeout": "it did not start or stop in its time",
    "start-limit-hit": "it failed too often to be started again",
    "exit-code": "it ended with an error",
    "signal": "it crashed",
    "core-dump": "it crashed",
    "resources": "systemd could not start it",
    "protocol": "it ended before it was ready",
}
"""What systemd's results mean (systemd.exec(5), org.freedesktop.systemd1(5))."""

STALE = timedelta(days=3)
"""Nights without maintenance after which something hinders it; a Pi may be off for one or two."""

OPT = "opt/roomtone"

AGAIN = "run: sudo systemctl start roomtone-maintenance"


def look(state_dir: Path, root: Path = ROOT, asks: Ask = ask) -> Iterator[Finding]:
    """Tell how the units are, and what installer and maintenance left behind; nothing where there is no service."""
    units = {unit["Id"]: unit for unit in shown(asks(SHOW) or "") if unit.get("LoadState") == "loaded"}
    for name in UNITS:
        if name in units:
            yield from judge(units[name])
    if TIMER in units and units[TIMER].get("ActiveState") != "active":
        said = "the nightly maintenance is not scheduled"
        yield Finding("units", "warn", said, f"run: sudo systemctl enable --now {TIMER}")
    yield from installation(root)
    yield from nights(state_dir, datetime.now(UTC), expected=TIMER in units)


def shown(text: str) -> Iterator[Mapping[str, str]]:
    """Take apart what ``systemctl show`` prints: a paragraph of KEY=VALUE for each unit."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        pairs = (line.partition("=") for line in paragraph.splitlines())
        unit = {key: value for key, _, value in pairs}
        if "Id" in unit:
            yield unit


def judge(unit: Mapping[str, str]) -> Iterator[Finding]:
    """Say how one unit is."""
    name, result = unit["Id"].removesuffix(".service"), unit.get("Result", "success")
    state, restarts = unit.get("ActiveState", "unknown"), int(unit.get("NRestarts") or 0)
    why = RESULTS.get(result, result)
    serves = unit["Id"] in SERVICES
    level: Any = "fail" if name == "roomtone" else "warn"
    log = f"see why: journalctl -u {name} -n 50"
    if state == "failed":
        yield Finding("units", level, f"{name} has failed: {why}", f"{log}; then: sudo systemctl restart {name}")
    elif serves and state == "activating" and restarts > 1:
        said = f"{name} is being restarted again and again ({restarts} times): {why}"
        yield Finding("units", level, said, log)
    elif serves and state == "inactive" and unit.get("UnitFileState") == "enabled":
        yield Finding("units", level, f"{name} does not run", f"run: sudo systemctl start {name}")
    elif serves and state == "active" and restarts >= RESTLESS:
        yield Finding("units", "warn", f"{name} was restarted {restarts} times since it was started", log)
    elif serves and state == "active":
        yield Finding("units", "ok", f"{name} runs")
    if serves and state == "active" and unit.get("UnitFileState") == "disabled":
        said = f"{name} runs, and will not after the next power cut"
        yield Finding("units", "warn", said, f"run: sudo systemctl enable {name}")


def installation(root: Path) -> Iterator[Finding]:
    """Tell of an upgrade that was not finished, and of a version that is not whole."""
    opt = root / OPT
    if not opt.is_dir():
        return
    if (opt / "trial").exists():
        said = "an upgrade was not finished: nobody knows yet whether the new version works"
        yield Finding("installation", "warn", said, "run: sudo systemctl start roomtone-trial")
    current = opt / "current"
    if not (current / "venv" / "bin" / "roomtone").exists():
        said = f"{current} leads to no whole version"
        yield Finding("installation", "fail", said, "install again: sudo ./install.sh (of the release's folder)")
    elif not (current / "complete").exists():
        said = f"{current.resolve().name} was not installed to its end"
        yield Finding("installation", "warn", said, "install again: sudo ./install.sh (of the release's folder)")
    else:
        back = (opt / "previous").resolve().name if (opt / "previous").exists() else None
        said = f"{current.resolve().name}{f', and {back} to go back to' if back else ''}"
        yield Finding("installation", "ok", said)


def nights(state_dir: Path, now: datetime, *, expected: bool) -> Iterator[Finding]:
    """Tell how the last night went; where a timer asks for it, that one came. Who may not look is told nothing."""
    outcome = maintenance.read(state_dir)
    if outcome is None:
        file = state_dir / maintenance.OUTCOME
        if os.access(file, os.R_OK):
            yield Finding("maintenance", "warn", f"{file} cannot be read", AGAIN)
        elif expected and os.access(state_dir, os.X_OK):
            yield Finding("maintenance", "ok", "no night has come yet in which it was due")
        return
    for line in outcome.lines:
        if not line.ok:
            yield Finding("maintenance", "warn", f"{line.what}: {line.said}", line.mend or AGAIN)
    if expected and now - outcome.at > STALE:
        yield Finding("maintenance", "warn", f"the last one was on {outcome.at:%d %B %Y}", AGAIN)
    elif outcome.ok:
        yield Finding("maintenance", "ok", f"all was well on {outcome.at:%d %B %Y at %H:%M} UTC")
