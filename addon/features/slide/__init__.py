"""The feature slide."""
