"""Blender's objects to arrays and back. Nothing here keeps a reference to a Blender object."""
