"""Roomtone: the voice of a room."""

__version__ = "0.1.0"
