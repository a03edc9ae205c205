"""Shapewright's neural shape engine: torch inside, bpy never."""

__version__ = "0.1.0"

PROTOCOL_VERSION = "1.0"
"""Version of the wire (``/v1``): a client refuses an engine whose major number differs from its own."""
