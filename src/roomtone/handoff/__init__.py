"""A conversation that goes to another room or comes from one, from this room's side; whose it is."""
