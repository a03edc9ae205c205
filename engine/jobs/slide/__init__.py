"""A code moved along directions, fast enough to drag."""
