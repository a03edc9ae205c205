"""The feature train."""
