"""The doctor on a machine that systemd has booted: it finds the units as they are, and chirps through the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from machine import Machine, a_copy, booted, installed, need_nspawn, renew

pytestmark = pytest.mark.long

CONFIG = {"audio": {"engine": "sim"}, "listen": {"mode": "open"}, "household": {"names": ["Wilhelmina"]}}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    need_nspawn()
    with a_copy(installed("bookworm")) as root:
        renew(root)
        (root / "etc/roomtone/config.yaml").write_text(yaml.safe_dump(CONFIG))
        with booted(root) as machine:
            machine.until_active("roomtone")
            yield machine


def doctor(machine: Machine, *only: str) -> list[dict[str, Any]]:
    words = [word for subject in only for word in ("--only", subject)]
    return [json.loads(line) for line in machine.ask("roomtone", "doctor", "--json", *words).splitlines()]


def test_the_service_chirps_for_who_asks_as_root_and_hears_itself(machine: Machine) -> None:
    machine.run("roomtone", "doctor", "--only", "chirp")
    [row] = doctor(machine, "chirp")
    assert row["said"].startswith("heard ")


def test_units_and_installation_are_found_as_they_are(machine: Machine) -> None:
    rows = doctor(machine, "units")
    assert ("ok", "roomtone runs") in [(row["level"], row["said"]) for row in rows]
    assert "installation" in {row["subject"] for row in rows}
    machine.run("sh", "-c", "touch /opt/roomtone/trial")
    assert "run: sudo systemctl start roomtone-trial" in [row["mend"] for row in doctor(machine, "units")]
    machine.run("rm", "/opt/roomtone/trial")


def test_a_bundle_holds_the_journal_of_the_service_and_nobodys_name(machine: Machine, tmp_path: Path) -> None:
    machine.run("roomtone", "ask", "do you remember the surprise for Wilhelmina")
    machine.ask("roomtone", "doctor", "--only", "units", "--bundle", "/root/bundle.tar.gz")
    whole = machine.run("tar", "-xzOf", "/root/bundle.tar.gz")
    assert "ready: " in whole
    assert '"where": "roomtone.daemon:' in whole
    assert "Started roomtone.service" in whole
    assert "Wilhelmina" not in whole
    assert "surprise" not in whole


def test_a_service_that_was_stopped_is_told_with_what_starts_it(machine: Machine) -> None:
    machine.run("systemctl", "stop", "roomtone")
    rows = doctor(machine, "units", "daemon")
    assert ("fail", "run: sudo systemctl start roomtone") in [(row["level"], row["mend"]) for row in rows]
    machine.run("systemctl", "start", "roomtone")
