"""The hub: a small process that knows the rooms, owns the truth of who has which conversation, and carries words."""
