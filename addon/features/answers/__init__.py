"""The feature answers."""
