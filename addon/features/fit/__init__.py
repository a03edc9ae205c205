"""The feature fit."""
