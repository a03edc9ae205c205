"""Relatives of a shape."""
