"""Clouds, meshes, their files, frames and measures. Imports nothing from the rest of the engine but errors."""
