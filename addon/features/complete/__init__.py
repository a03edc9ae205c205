"""The feature complete."""
