"""Pure rooms: no I/O, no asyncio; tested with lists."""
