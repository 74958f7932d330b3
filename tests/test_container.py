"""The hub and its broker as containers: what the files promise, and the broker's own program on what a hub wrote."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from roomtone.cli import main
from roomtone.hub import mosquitto
from roomtone.hub.authority import open_authority

ROOT = Path(__file__).parent.parent
CONTAINER = ROOT / "scripts" / "container"
BOUND_S = 30.0
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

# ------------------------------------------------------------------------------------------------ what is promised


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the Containerfile's instructions by stage: name and words."""
    text = re.sub(r"^#.*\n", "", (CONTAINER / "Containerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, _, words = line.partition(" ")
        if name == "FROM":
            found[words.rpartition(" AS ")[2]] = []
        if found:
            found[next(reversed(found))].append((name, " ".join(words.split())))
    return found


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]
    return found


@pytest.mark.parametrize("stage", ["hub", "broker"])
def test_an_image_runs_as_nobody_in_particular_with_a_program_and_says_whether_it_works(stage: str) -> None:
    instructions = dict(stages()[stage])
    assert instructions["USER"] == "1883:1883"
    for name in ("ENTRYPOINT", "CMD"):
        assert instructions[name].startswith("["), "without a shell around it, signals arrive"
    assert "CMD [" in instructions["HEALTHCHECK"]


def test_what_is_built_on_and_what_is_installed_is_pinned() -> None:
    text = (CONTAINER / "Containerfile").read_text()
    [base] = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert re.search(r":\d+\.\d+-slim$", base)
    for command in re.findall(r"pip install [^&\n]+", text):
        assert "--require-hashes -r" in command or "--no-index" in command
        assert "--no-deps" in command


def test_everything_that_is_copied_is_there_and_let_in() -> None:
    let_in = [
        line[1:] for line in (CONTAINER / "Containerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for words in [words for stage in stages().values() for name, words in stage if name == "COPY"]:
        *sources, _ = [word for word in words.split() if not word.startswith("--")]
        if "--from=" in words:
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in let_in, f"{source} is kept out by Containerfile.dockerignore"


def test_the_lock_holds_what_the_hub_needs() -> None:
    lines = (ROOT / "requirements-install.lock").read_text().splitlines()
    parts = {line.partition("==")[0]: line.rpartition("  #")[2].split() for line in lines}
    chosen = {name for name, needs in parts.items() if {"core", "hub"} & set(needs)}
    assert {"aiomqtt", "paho-mqtt", "cryptography", "spake2", "pydantic", "sqlite-utils"} <= chosen
    assert not {"faster-whisper", "onnxruntime", "piper-tts", "openai", "mcp"} & chosen
    assert "hatchling" in {name for name, needs in parts.items() if "build" in needs}


@pytest.mark.parametrize("name", ["setup", "broker", "hub", "enroll"])
def test_a_service_may_do_nothing_but_its_work(name: str) -> None:
    service = services()[name]
    assert service["user"] == "1883:1883"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert all(mount.startswith("/tmp:") for mount in service["tmpfs"])  # inside the container
    assert not {"privileged", "cap_add", "environment", "env_file", "devices", "secrets"} & service.keys()
    assert all(volume.split(":")[0] in ("state", "lists", "sessions") for volume in service["volumes"])


def test_one_port_is_open_to_the_house_and_another_while_a_room_is_let_in() -> None:
    ports = {name: service.get("ports", []) for name, service in services().items()}
    assert ports == {"setup": [], "broker": ["8883:8883"], "hub": [], "enroll": ["8882:8882"]}
    assert services()["enroll"]["profiles"] == ["enroll"], "it is not started with the others"
    assert services()["hub"]["network_mode"] == "service:broker", "the hub's own port is open on this machine alone"


def test_the_broker_sees_no_key_of_the_house_and_writes_nothing_of_what_it_reads() -> None:
    mounts = dict(volume.split(":", 1) for volume in services()["broker"]["volumes"])
    assert mounts == {"lists": f"{mosquitto.INSTALLED}:ro", "sessions": "/var/lib/mosquitto"}


def test_what_stays_up_comes_back_and_is_looked_after() -> None:
    for name in ("broker", "hub"):
        service = services()[name]
        assert service["restart"] == "unless-stopped"
        assert "healthcheck" not in service, "the image's own"
    assert services()["hub"]["depends_on"]["broker"] == {"condition": "service_healthy"}


# ----------------------------------------------------------------------------------------------- the broker's program


def until(truth: Callable[[], object]) -> None:
    deadline = time.monotonic() + BOUND_S
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto: apt install mosquitto")
def test_the_brokers_program_waits_for_the_hubs_files_reads_them_anew_and_ends_when_it_is_told(
    tmp_path: Path,
) -> None:
    folder, state, log = tmp_path / "broker", tmp_path / "state", tmp_path / "log"
    path = f"{Path(MOSQUITTO or '').parent}:{os.environ['PATH']}"
    with log.open("w") as output:
        program = subprocess.Popen(
            [CONTAINER / "broker", "run", folder],
            cwd=tmp_path,
            env={"PATH": path, "ROOMTONE_LOOK_S": "0.1"},
            stderr=output,
            stdout=output,
        )
        try:
            ports = ["--port", str(free_port()), "--hub-port", str(free_port())]
            command = [sys.executable, "-m", "roomtone.cli", "hub", "setup", "--mosquitto-dir", str(folder), *ports]
            subprocess.run([*command, "--state-dir", str(state)], check=True, capture_output=True)
            given(state, folder)
            until(lambda: "running" in log.read_text())
            mosquitto.refresh(folder, open_authority(state / "hub" / "authority"), "ours")
            until(lambda: "Reloading config" in log.read_text())
            assert program.poll() is None
        finally:
            program.send_signal(signal.SIGTERM)
            assert program.wait(BOUND_S) in (0, 128 + signal.SIGTERM), log.read_text()


def given(state: Path, folder: Path) -> None:
    """Give the broker its files, as the shared volume does; run by root it would become somebody else."""
    folder.mkdir()
    for file in (state / "hub" / "mosquitto").iterdir():
        if file.name != "acl":
            shutil.copy(file, folder)
    with (folder / "roomtone.conf").open("a") as conf:
        conf.write(f"user {getpass.getuser()}\n")
    shutil.copy(state / "hub" / "mosquitto" / "acl", folder)


def test_a_hub_that_does_not_run_is_not_healthy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["hub", "health", "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
