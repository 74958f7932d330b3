"""Releases of a Roomtone that can next to nothing, so that the installer's tests take seconds.

Everything else in them is as it is shipped: the installer, the units. They hold three wheels, one of them pip's.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from machine import SOURCE

PROGRAM = """
import os, pathlib, socket, sys, time

KIND = "{kind}"

def main():
    words = sys.argv[1:]
    if words == ["--version"]:
        print("roomtone {version}")
    elif words[0] == "backup":
        with open(words[1], "x") as made:  # Roomtone writes over no backup
            made.write("the state as {version} knew it")
    elif words[0] == "config":
        return 2 if "nonsense" in pathlib.Path(words[2]).read_text() else 0
    elif words[0] == "doctor":
        return 1 if KIND == "silent" else 0
    elif words[0] == "run":
        if KIND == "broken":
            return 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.connect(os.environ["NOTIFY_SOCKET"])
            to.send(b"READY=1")
            while True:
                time.sleep(3)
                to.send(b"WATCHDOG=1")
"""


def release(folder: Path, version: str, kind: str = "good") -> Path:
    """Make the folder of a release; its Roomtone is good, broken (never ready) or silent (its chirp is not heard)."""
    made = folder / f"roomtone-{version}"
    wheels = made / "wheels"
    wheels.mkdir(parents=True)
    shutil.copytree(SOURCE / "systemd", made / "systemd")
    for name in ("install.sh", "install-version.sh", "llama-wheel"):
        shutil.copy(SOURCE / "scripts" / name, made / name)
    (made / "VERSION").write_text(version + "\n")
    _wheel(wheels, "pip", metadata.version("pip"), _files_of("pip"))
    small = _wheel(wheels, "small", "1", {"small.py": b""})
    digest = hashlib.sha256(small.read_bytes()).hexdigest()
    (made / "requirements-install.lock").write_text(f"small==1 --hash=sha256:{digest}  # core\n")
    program = PROGRAM.replace("{kind}", kind).replace("{version}", version).encode()
    points = b"[console_scripts]\nroomtone = roomtone.cli:main\n"
    _wheel(wheels, "roomtone", version, {"roomtone/__init__.py": b"", "roomtone/cli.py": program}, points)
    return made


def key(folder: Path, name: str = "key") -> Path:
    """Make a private key that archives are signed with."""
    made = folder / f"{name}.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(made)], check=True)
    return made


def publish(folder: Path, private: Path) -> None:
    """Put the public half of a key into a release."""
    to = folder / "release.pub"
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(to)], check=True)


def packed(folder: Path, private: Path, out: Path) -> Path:
    """Pack a release into an archive in ``out``, and sign it."""
    archive = out / f"{folder.name}.tar"
    subprocess.run(["tar", "-C", str(folder.parent), "-cf", str(archive), folder.name], check=True)
    sign = ["openssl", "pkeyutl", "-sign", "-inkey", str(private), "-rawin", "-in", str(archive)]
    subprocess.run([*sign, "-out", f"{archive}.sig"], check=True)
    return archive


def _files_of(name: str) -> Mapping[str, bytes]:
    """Return the modules of a package that is installed here."""
    found = metadata.distribution(name)
    wanted = [file for file in found.files or [] if file.parts[0] == name and file.suffix != ".pyc"]
    return {str(file): file.read_binary() for file in wanted}


def _wheel(folder: Path, name: str, version: str, files: Mapping[str, bytes], points: bytes | None = None) -> Path:
    """Write a wheel as the specification of binary distributions has it: RECORD holds a hash of every file."""
    info = f"{name}-{version}.dist-info"
    told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    how = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    whole = {**files, f"{info}/METADATA": told, f"{info}/WHEEL": how}
    if points:
        whole[f"{info}/entry_points.txt"] = points
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in whole.items()]
    whole[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]).encode()
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, data in whole.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return made


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
