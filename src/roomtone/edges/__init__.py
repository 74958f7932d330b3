"""Edges: where the house reaches Roomtone other than by voice.

All have one shape: they may post facts, watch the feed and read store and personas, and know nothing else. A broken
edge never stops the voice.
"""
