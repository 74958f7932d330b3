"""The board and its system: what it is, how old, whether it has power enough, and whether its HAT was told of.

All of it is read under a ``root``, so that a board can be looked at that this is not.
"""

from __future__ import annotations

import os
import platform
import re
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from roomtone.doctor.findings import Finding
from roomtone.doctor.machine import HOT_C

ROOT = Path("/")

Ask = Callable[[Sequence[str]], str | None]
"""Runs a program and returns what it prints; None where there is none, or it fails."""

ASK_S = 5.0

SUPPORTED_UNTIL = {
    "buster": date(2024, 6, 30),
    "bullseye": date(2026, 8, 31),
    "bookworm": date(2028, 6, 30),
    "trixie": date(2030, 6, 30),
}
"""Until when Debian's releases, which Raspberry Pi OS is made of, are mended (wiki.debian.org/LTS)."""

STALE = timedelta(days=180)
"""A system to which nothing was added for so long lacks its mendings."""

UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 0, 1, 2, 3
SINCE_BOOT = 16
"""Bits of what the firmware tells; so much higher stands that it was so since the board was started (Raspberry Pi
documentation, vcgencmd get_throttled)."""

SUPPLY = "use the power supply made for this board (Pi 4: 5.1 V 3 A, Pi 5: 5.1 V 5 A) and a short, thick cable"
COOL = "give it a fan or a heat sink, and air around it"
UPDATE = "run: sudo apt update && sudo apt full-upgrade"
FLASH = "back up and flash a newer one: roomtone backup FILE"

CONFIG = ("boot/firmware/config.txt", "boot/config.txt")
CMDLINE = ("boot/firmware/cmdline.txt", "boot/cmdline.txt")
"""Where the firmware's files are: since Bookworm, and before."""

SOUND_OVERLAYS = {
    "googlevoicehat-soundcard": "googlevoice",
    "wm8960-soundcard": "wm8960",
    "seeed-2mic-voicecard": "seeed",
    "seeed-4mic-voicecard": "seeed",
    "seeed-8mic-voicecard": "seeed",
    "hifiberry-dac": "hifiberry",
    "hifiberry-dacplus": "hifiberry",
    "iqaudio-codec": "iqaudio",
    "iqaudio-dacplus": "iqaudio",
    "max98357a": "max98357a",
    "i2s-mmap": "",
}
"""Overlays that make a sound card, and a part of the name that it then has."""

BOARD_OVERLAYS = {
    "aiy-voice-hat": "googlevoicehat-soundcard",
    "respeaker-2mic": "wm8960-soundcard",
    "respeaker-4mic": "seeed-4mic-voicecard",
}
"""The boards of gpio.board that have a sound card, and the overlay for it."""


def ask(words: Sequence[str]) -> str | None:
    """Run a program of the system's for at most ``ASK_S``, in its own language."""
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=ASK_S, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def look(board: str, root: Path = ROOT, asks: Ask = ask) -> Iterator[Finding]:
    """Tell what board and system it is, whether it has power, and whether its HAT ``board`` (gpio.board) is known."""
    yield model(root)
    yield from system(root, datetime.now(UTC))
    yield from userland(struct.calcsize("P") * 8, platform.machine())
    yield from power(throttled(root, asks), root)
    yield from hats(root, board)
    yield from memory_limits(root)


# -------------------------------------------------------------------------------------------- what it is


def model(root: Path) -> Finding:
    """Tell which board it is, by its device tree; else which kind of machine."""
    name = _text(root / "proc/device-tree/model") or _text(root / "sys/class/dmi/id/product_name")
    cores = os.cpu_count() or 1
    said = f"{name or 'an unknown machine'}, {platform.machine()}, {cores} core{'s' if cores > 1 else ''}"
    return Finding("board", "ok", said)


def system(root: Path, now: datetime) -> Iterator[Finding]:
    """Tell which system it is, until when it is mended, and when it last was."""
    told = release(root)
    name = told.get("PRETTY_NAME", "an unknown system")
    image = re.search(r"\d{4}-\d\d-\d\d", _text(root / "etc/rpi-issue"))
    made = f", of an image of {image.group()}" if image else ""
    until = SUPPORTED_UNTIL.get(told.get("VERSION_CODENAME", ""))
    if until is not None and now.date() > until:
        yield Finding("system", "warn", f"{name}{made} is mended no more, since {until:%d %B %Y}", FLASH)
    else:
        yield Finding("system", "ok", f"{name}{made}")
    changed = _changed(root / "var/lib/dpkg/status")
    if changed is not None and now - changed > STALE:
        said = f"nothing of it was brought up to date since {changed:%d %B %Y}"
        yield Finding("system", "warn", said, UPDATE)


def userland(bits: int, machine: str) -> Iterator[Finding]:
    """Tell of a 32-bit userland, for which few engines are made; also under a kernel that could do more."""
    if bits == 64:
        return
    kernel = " under a kernel of 64 bits" if machine in ("aarch64", "x86_64") else ""
    said = f"it is a 32-bit system{kernel}: most recognisers and voices are not made for it"
    yield Finding("system", "warn", said, "back up and flash the 64-bit one: roomtone backup FILE")


def release(root: Path) -> dict[str, str]:
    """Return what the system says of itself (os-release(5))."""
    pairs = (line.partition("=") for line in _text(root / "etc/os-release").splitlines())
    return {key: value.strip("\"'") for key, _, value in pairs}


def _changed(file: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return None


# ----------------------------------------------------------------------------------------------- power


def throttled(root: Path, asks: Ask = ask) -> int | None:
    """Return the firmware's bits; None where it is no Raspberry Pi."""
    for file in sorted(root.glob("sys/devices/platform/soc*/soc*firmware/get_throttled")):
        said = _text(file)
        if re.fullmatch(r"(0x)?[0-9a-fA-F]+", said):
            return int(said, 16)
    told = re.search(r"throttled=0x([0-9a-fA-F]+)", asks(["vcgencmd", "get_throttled"]) or "")
    return int(told.group(1), 16) if told else None


def power(bits: int | None, root: Path) -> Iterator[Finding]:
    """Tell, by the firmware's bits, of too little power and too much heat, now and since the start."""
    if bits is None:
        alarm = any(_text(file) == "1" for file in root.glob("sys/class/hwmon/hwmon*/in0_lcrit_alarm"))
        if alarm:
            yield Finding("power", "warn", "the voltage was too low since it was started", SUPPLY)
        return

    def now(bit: int) -> bool:
        return bool(bits & 1 << bit)

    def before(bit: int) -> bool:
        return bool(bits & 1 << bit + SINCE_BOOT)

    if now(UNDER_VOLTAGE):
        yield Finding("power", "warn", "the voltage is too low now: sound breaks off and cards are damaged", SUPPLY)
    elif before(UNDER_VOLTAGE):
        yield Finding("power", "warn", "the voltage was too low since it was started", SUPPLY)
    else:
        yield Finding("power", "ok", "the voltage was never too low since it was started")
    if now(THROTTLED) or now(SOFT_LIMIT) or (now(CAPPED) and not now(UNDER_VOLTAGE)):
        yield Finding("heat", "warn", f"the processor is slowed down now, from {HOT_C:.0f} degrees on", COOL)
    elif before(SOFT_LIMIT) or (before(THROTTLED) and not before(UNDER_VOLTAGE)):
        yield Finding("heat", "warn", "the processor was slowed down by heat since it was started", COOL)


# ------------------------------------------------------------------------------------------------ HATs


def hats(root: Path, board: str) -> Iterator[Finding]:
    """Tell of a HAT, or of an overlay in config.txt, whose sound card is not there."""
    hat = " ".join(filter(None, (_text(root / "proc/device-tree/hat" / part) for part in ("vendor", "product"))))
    config = next((root / path for path in CONFIG if (root / path).is_file()), None)
    cards = _text(root / "proc/asound/cards").casefold()
    overlays = _overlays(_text(config)) if config is not None else []
    wanted = BOARD_OVERLAYS.get(board)
    if hat:
        yield Finding("hat", "ok", f"{hat} is on the board")
    for overlay in overlays:
        name = SOUND_OVERLAYS.get(overlay)
        if name and name not in cards:
            said = f"config.txt asks for {overlay}, and its sound card is not there"
            yield Finding("hat", "warn", said, "see why: dmesg | grep -i -e snd -e asoc -e i2c; then: sudo reboot")
    if config is None or (overlays and set(overlays) & SOUND_OVERLAYS.keys()):
        return
    place = f"/{config.relative_to(root)}"
    if wanted is not None and SOUND_OVERLAYS[wanted] not in cards:
        said = f"gpio.board is {board}, and no overlay makes its sound card"
        yield Finding("hat", "warn", said, f"run: echo dtoverlay={wanted} | sudo tee -a {place}; sudo reboot")
    elif hat and not _own_cards(cards):
        said = f"{hat} is on the board, and no sound card is there"
        yield Finding("hat", "warn", said, f"add its overlay (its maker names it) to {place}; then: sudo reboot")


def _overlays(config: str) -> list[str]:
    """List the overlays of a config.txt, whatever board they are meant for."""
    found = re.findall(r"^\s*dtoverlay\s*=\s*([^,\s#]+)", config, re.MULTILINE)
    return [str(name) for name in found]


def _own_cards(cards: str) -> bool:
    """Tell whether there is a sound card that is not the board's own (HDMI, the headphones' socket)."""
    names = re.findall(r"^\s*\d+ \[([^\]]+)\]", cards, re.MULTILINE)
    return any(not re.match(r"vc4|b1|headphones|bcm2835", name.strip()) for name in names)


# ---------------------------------------------------------------------------------------------- memory


def memory_limits(root: Path) -> Iterator[Finding]:
    """Tell where MemoryMax of the units has no effect: Raspberry Pi OS starts without the memory cgroup."""
    try:
        controllers = (root / "sys/fs/cgroup/cgroup.controllers").read_text("ascii").split()
    except OSError:
        return  # no unified hierarchy: none of this can be told
    if "memory" in controllers:
        return
    place = next((f"/{path}" for path in CMDLINE if (root / path).is_file()), None)
    mend = (
        f"run: sudo sed -i '1s/$/ cgroup_enable=memory/' {place}; sudo reboot"
        if place is not None
        else "start the kernel with cgroup_enable=memory"
    )
    yield Finding("memory", "warn", "limits on memory have no effect: one process may starve all others", mend)


def _text(file: Path) -> str:
    """Return a short file's text without the NUL at its end; "" where there is none."""
    try:
        return file.read_bytes()[:65_536].decode("utf-8", "replace").replace("\0", "").strip()
    except OSError:
        return ""
