"""The feature blend."""
