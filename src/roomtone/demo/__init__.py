"""The demo: people in a simulated room, with real engines, and what should come of each thing they say."""
