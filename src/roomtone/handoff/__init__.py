"""A conversation between two rooms: packed for the way, and whose it is."""
