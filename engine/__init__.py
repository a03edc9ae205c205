"""Shapewright's neural shape engine: torch inside, bpy never."""

import os

# Read when torch loads. Threads that spin while they wait make a busy machine (Blender drawing, a second job) several
# times slower; threads that sleep cost an idle one nothing that can be measured.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"

PROTOCOL_VERSION = "1.0"
"""Version of the wire (``/v1``): a client refuses an engine whose major number differs from its own."""
