"""An MCP server for the demo: what a household's weather, calendar and news services would say this morning.

``python -m roomtone.demo.house weather`` speaks MCP on its standard streams until they are closed.
"""

from __future__ import annotations

import sys

KNOWS = {
    "weather": ("today", "Rain until noon, then sun; up to 12 degrees.", "The weather of today"),
    "calendar": ("today", "Dentist at half past ten. Ben's recital at six.", "What stands in the calendar today"),
    "news": ("headlines", "The old tram line opens again after nine years.", "The first line of the news"),
}
"""What each service's one tool is called, what it says, and its description."""


def main(service: str) -> None:
    """Serve one of the services of ``KNOWS``."""
    from mcp.server.mcpserver import MCPServer

    name, says, description = KNOWS[service]
    server = MCPServer(service)

    @server.tool(name=name, description=description)
    def tell() -> str:
        return says

    server.run(transport="stdio")


if __name__ == "__main__":
    main(sys.argv[1])
