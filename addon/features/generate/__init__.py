"""The feature generate."""
