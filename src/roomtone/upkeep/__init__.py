"""What keeps a room well: the night's work, its backups, and a backup taken in."""
