"""The places in the README that scripts write: between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def replaced(readme: str, name: str, text: str) -> str:
    """Return the README with ``text`` in the place called ``name``."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = readme.partition(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def write(name: str, text: str) -> None:
    """Put ``text`` into the README."""
    README.write_text(replaced(README.read_text("utf-8"), name, text), "utf-8")
