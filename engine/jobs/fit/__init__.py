"""Fit Shape: a surface from raw points or triangles."""
