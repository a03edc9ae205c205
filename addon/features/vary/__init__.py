"""The feature vary."""
