"""The feature engine."""
