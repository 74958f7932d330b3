"""The image: its layer is one that the tool takes, and its check finds whatever an appliance must not be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from roomtone.first_boot import Places, take_in
from roomtone.first_boot.card import read_card

IMAGE = Path(__file__).parent.parent / "scripts" / "image"
FILES = IMAGE / "files"
LAYER = IMAGE / "layer" / "roomtone.yaml"
SAMPLE = FILES / "boot" / "firmware" / "roomtone.yaml"


def header() -> dict[str, str]:
    """Read the layer's header: fields in comments, one that goes on is indented."""
    lines = LAYER.read_text().partition("# METABEGIN\n")[2].partition("# METAEND")[0].splitlines()
    joined = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines).replace("\n ", " ")
    return dict(re.findall(r"^(X-Env-[^:]+): *(.*)$", joined, re.MULTILINE))


def test_the_layer_says_what_the_tool_asks_of_one() -> None:
    fields = header()
    assert fields["X-Env-Layer-Name"] == "roomtone"
    assert {"X-Env-Layer-Category", "X-Env-Layer-Desc", "X-Env-Layer-Version", "X-Env-VarPrefix"} <= fields.keys()
    variables = {name.split("-")[3] for name in fields if name.startswith("X-Env-Var-")}
    for name in variables:
        assert {f"X-Env-Var-{name}{part}" for part in ("", "-Desc", "-Required", "-Valid", "-Set")} <= fields.keys()
    used = set(re.findall(r"IGconf_roomtone_(\w+)", LAYER.read_text()))
    assert used == variables


def test_the_hooks_of_the_layer_are_there_and_can_be_run() -> None:
    hooks = yaml.safe_load(LAYER.read_text())["mmdebstrap"]["customize-hooks"]
    scripts = [hook.split()[0].replace("$IGconf_roomtone_assetdir", str(LAYER.parent)) for hook in hooks]
    assert [Path(script).name for script in scripts] == ["customize", "check"]
    assert all(os.access(script, os.X_OK) for script in scripts)


def test_the_image_has_no_layer_that_listens() -> None:
    layers = set(yaml.safe_load((IMAGE / "config" / "roomtone.yaml").read_text())["layer"].values())
    assert "roomtone" in layers
    assert not {"trixie-minbase", "openssh-server"} & layers


def test_the_sample_on_the_card_says_nothing_until_it_is_edited() -> None:
    card = read_card(SAMPLE)
    assert (card.values, card.mistakes) == ({}, [])


def test_the_sample_on_the_card_is_right_when_every_key_in_it_is_taken(tmp_path: Path) -> None:
    edited = tmp_path / "roomtone.yaml"
    edited.write_text(re.sub(r"^#(?! )|^#(?=  )", "", SAMPLE.read_text(), flags=re.MULTILINE))
    assert len(read_card(edited).values) > 5
    places = Places((edited,), tmp_path / "config.yaml", tmp_path / "credentials", tmp_path / "state")
    outcome = take_in(places, lambda command: "")
    assert outcome is not None
    assert (outcome.outcome, outcome.mistakes) == ("ready", [])
    assert {file.name for file in places.credentials.iterdir()} == {"anthropic", "hub.code"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_of_the_image_are_understood_by_systemd(tmp_path: Path) -> None:
    units = [shutil.copy(unit, tmp_path) for unit in (FILES / "etc/systemd/system").iterdir()]
    grow = tmp_path / "roomtone-grow.service"
    grow.write_text(grow.read_text().replace("/usr/lib/roomtone/grow-root", "/bin/true"))
    looked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=60
    )
    assert (looked.returncode, looked.stderr) == (0, "")


# ------------------------------------------------------------------------------------------- the building


TOOL = """#!/bin/sh
[ "$1" != build ] || { mkdir -p work/image-roomtone; cp "$3/config/roomtone.yaml" work/; touch work/roomtone.img; }
"""


def test_the_tool_is_given_the_release_and_the_board_and_its_image_a_manifest(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    (tool / "work").mkdir(parents=True)
    (tool / "rpi-image-gen").write_text(TOOL)
    (tool / "rpi-image-gen").chmod(0o755)
    (tmp_path / "roomtone-1").mkdir()
    release = tmp_path / "release.tar"
    subprocess.run(["tar", "-C", tmp_path, "-cf", release, "roomtone-1"], check=True)
    build = [IMAGE.parent / "build-image", "--rpi-image-gen", tool, "--device", "rpi5", "--release", release]
    subprocess.run([*build, "--out", tmp_path / "out"], check=True, timeout=60, capture_output=True)
    given = yaml.safe_load((tool / "work/roomtone.yaml").read_text())
    assert (given["device"]["layer"], Path(given["roomtone"]["release"]).name) == ("rpi5", "roomtone-1")
    [entry] = json.loads((tmp_path / "out/roomtone-rpi5.rpi-imager-manifest").read_text())["os_list"]
    assert (entry["devices"], entry["init_format"]) == (["pi5-64bit"], "rpi-preseed")
    assert entry["url"] == f"file://{tmp_path}/out/roomtone-rpi5.img"


# --------------------------------------------------------------------------------------------- the check


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make as much of an appliance as the check looks at."""
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    for folder in ("etc/roomtone/credentials", "usr/sbin", "usr/bin", "var/lib/roomtone", "home/pi"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    version = tmp_path / "opt/roomtone/versions/1"
    (version / "venv/bin").mkdir(parents=True)
    (version / "complete").touch()
    (version / "VERSION").write_text("1.0\n")
    (version / "venv/bin/roomtone").touch(0o755)
    (tmp_path / "opt/roomtone/current").symlink_to("versions/1")
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nroomtone:x:900:900::/var/lib/roomtone:/bin/false\n"
    )
    (tmp_path / "etc/shadow").write_text("root:!*:20000::::::\nroomtone:!*:20000::::::\n")
    (tmp_path / "etc/machine-id").write_text("uninitialized\n")
    (tmp_path / "etc/fstab").write_text("/dev/mmcblk0p2 / ext4 rw 0 1\n")
    units = {"multi-user.target": "*.service", "local-fs.target": "*.mount"}
    enabled = [(target, unit.name) for target, kind in units.items() for unit in _units(tmp_path).glob(kind)]
    for target, unit in [
        *enabled,
        *(("multi-user.target", f"{name}.service") for name in ("roomtone", "roomtone-first-boot")),
    ]:
        wants = _units(tmp_path) / f"{target}.wants"
        wants.mkdir(exist_ok=True)
        (wants / unit).symlink_to(f"../{unit}")
    return tmp_path


def _units(root: Path) -> Path:
    return root / "etc/systemd/system"


def check(root: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [IMAGE / "check", root], capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **env}
    )


def test_an_appliance_passes(root: Path) -> None:
    looked = check(root)
    assert (looked.returncode, looked.stderr) == (0, "")
    assert "nobody can log in, nothing listens, Roomtone 1.0 starts by itself" in looked.stdout


def _append(file: str, line: str) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        with (root / file).open("a") as opened:
            opened.write(line + "\n")

    return spoil


def _remove(file: str) -> Callable[[Path], object]:
    return lambda root: (root / file).unlink()


def _open_a_port(root: Path) -> None:
    _append("usr/lib/systemd/system/talk.socket", "[Socket]\nListenStream=8080")(root)
    wants = _units(root) / "sockets.target.wants"
    wants.mkdir()
    (wants / "talk.socket").symlink_to("/usr/lib/systemd/system/talk.socket")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_append("etc/shadow", "pi:$y$j9T$abc:20000::::::"), "pi has a password"),
        (_append("etc/shadow", "pi::20000::::::"), "pi has a password, or needs none"),
        (
            _append("etc/ssh/ssh_host_ed25519_key", "key"),
            "/etc/ssh/ssh_host_ed25519_key is the same on every machine",
        ),
        (_append("home/pi/.ssh/authorized_keys", "key"), "/home/pi/.ssh/authorized_keys is the same"),
        (lambda root: (root / "etc/machine-id").write_text("0" * 32), "/etc/machine-id is set"),
        (_append("etc/roomtone/credentials/anthropic", "sk"), "/etc/roomtone/credentials holds secrets"),
        (_append("etc/roomtone/config.yaml", "{}"), "/etc/roomtone/config.yaml is there before"),
        (_append("var/lib/roomtone/roomtone.db", ""), "/var/lib/roomtone has a state already"),
        (_append("usr/sbin/sshd", ""), "/usr/sbin/sshd listens"),
        (_append("usr/sbin/mosquitto", ""), "/usr/sbin/mosquitto listens"),
        (_open_a_port, "talk.socket opens a port"),
        (_remove("opt/roomtone/current/complete"), "is no whole version"),
        (_remove("opt/roomtone/current/venv/bin/roomtone"), "there is no roomtone"),
        (_remove("etc/systemd/system/multi-user.target.wants/roomtone.service"), "roomtone.service is not enabled"),
        (_remove("etc/systemd/system/local-fs.target.wants/var.mount"), "var.mount is not enabled"),
        (_remove("boot/firmware/roomtone.yaml"), "/boot/firmware/roomtone.yaml, to be edited, is not there"),
        (lambda root: (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n"), "user roomtone is not there"),
        (_remove("etc/systemd/journald.conf.d/roomtone.conf"), "the journal is written to the card"),
        (_append("etc/fstab", "/swapfile none swap sw 0 0"), "swaps to the card"),
    ],
    ids=range(19),
)
def test_what_an_appliance_must_not_be_is_found(root: Path, spoil: Callable[[Path], object], told: str) -> None:
    spoil(root)
    looked = check(root)
    assert looked.returncode == 1
    assert [line for line in looked.stderr.splitlines() if told in line], looked.stderr
    assert len(looked.stderr.splitlines()) == 1


def test_a_root_too_large_for_the_image_is_found(root: Path) -> None:
    assert "at most 0 fit" in check(root, LARGEST_MB="0").stderr
