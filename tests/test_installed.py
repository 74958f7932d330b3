"""What is said to bring an optional part is what works on that machine."""

from __future__ import annotations

from pathlib import Path

from roomtone import installed


def test_in_an_environment_of_ones_own_pip_brings_it(tmp_path: Path) -> None:
    assert installed.bringing("whisper", str(tmp_path / "venv")) == "pip install 'roomtone[whisper]'"


def test_where_the_installer_was_it_brings_one_beside_what_is_there(tmp_path: Path) -> None:
    version = tmp_path / "versions" / "1.0.0-abc"
    version.mkdir(parents=True)
    (version / "parts").write_text("hub,piper\n")
    installer = tmp_path / "current" / "install.sh"
    assert installed.bringing("embed", str(version / "venv")) == f"sudo {installer} --with embed,hub,piper"
    (version / "parts").write_text("\n")
    assert installed.bringing("llama", str(version / "venv")) == f"sudo {installer} --with llama"
