"""The tool seam: pydantic parameters in, a result or ToolError out. No tool of it ships yet."""

from __future__ import annotations

AUTO: tuple[str, ...] = ()
