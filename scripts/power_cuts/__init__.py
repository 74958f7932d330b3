"""Power cuts of a whole virtual machine in mid-conversation: see scripts/power-cuts."""
