"""Write the README's table of numbers from files of what ``roomtone bench --json`` printed."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

from readme_block import write


def machine() -> str:
    """Name this machine: processor, cores, Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{os.cpu_count()} cores, {model or platform.machine()}, Python {platform.python_version()}"


def table(paths: list[Path]) -> str:
    """Return the figures as a Markdown table."""
    figures = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    lines = ["| figure | measured | goal | n |", "|---|---:|---:|---:|"]
    for figure in figures:
        value = "-" if figure["value"] is None else f"{figure['value']:.4g}"
        lines.append(f"| `{figure['name']}` | {value} {figure['unit']} | {figure['goal']} | {figure['n']} |")
    return "\n".join([f"`roomtone bench --json` on a shared virtual machine: {machine()}.", "", *lines])


if __name__ == "__main__":
    write("numbers", table([Path(name) for name in sys.argv[1:]]))
