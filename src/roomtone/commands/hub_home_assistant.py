"""``roomtone hub home-assistant``: let the household's Home Assistant in, which cannot enrol as a device does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from roomtone import installed
from roomtone.commands import say_json, say_line
from roomtone.core.errors import RegistrationError
from roomtone.settings import Settings


def add_actions(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the action."""
    parser = action("home-assistant", "make the certificate by which Home Assistant comes to the broker")
    parser.add_argument(
        "--to", type=Path, default=Path("homeassistant"), metavar="DIR", help="where its files go (./homeassistant)"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Write the authority's certificate and a new pair; the pair that was made before is shut out."""
    try:
        from roomtone.hub.setting_up import read_setup
    except ModuleNotFoundError as error:
        why = f"{error.name} is not installed; run: {installed.bringing('hub')}"
        raise RegistrationError(why) from None
    setup = read_setup(settings.state_dir)
    broker = urlsplit(setup.url)
    told = _admit(settings.state_dir, args.to)
    if args.json:
        say_json({"broker": broker.hostname, "port": broker.port, "files": str(args.to), "commands": told})
        return 0
    say_line("In Home Assistant: Settings, Devices & services, Add integration, MQTT.")
    say_line(f"  Broker: {broker.hostname}   Port: {broker.port}   no user name, no password")
    say_line("  Advanced options: Broker certificate validation: Custom; Use a client certificate")
    say_line(f"  CA certificate: {args.to / 'ca.pem'}")
    say_line(f"  client certificate: {args.to / 'cert.pem'}   private key: {args.to / 'key.pem'}")
    for line in told:
        say_line(f"The certificate that it had before is shut out once the broker knows of that; run: {line}")
    return 0


def _admit(state_dir: Path, folder: Path) -> list[str]:
    """Make the pair; return what lets the broker know that an older one is void. Raises RegistrationError."""
    from roomtone.durable import write_durably
    from roomtone.hub.authority import HOME_ASSISTANT
    from roomtone.hub.setting_up import list_commands, own_authority, refresh_lists

    authority = own_authority(state_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        had_one = authority.revoke(HOME_ASSISTANT)
        key, cert = authority.pair(HOME_ASSISTANT)
        for name, content in (("ca.pem", authority.ca_pem), ("cert.pem", cert), ("key.pem", key)):
            write_durably(folder / name, content)
    except OSError as error:
        raise RegistrationError(f"{folder} cannot be written: {error.strerror}; name another with --to") from error
    if not had_one:
        return []
    refresh_lists(state_dir)
    return [list_commands(state_dir)]
