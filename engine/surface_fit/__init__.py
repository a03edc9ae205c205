"""Surfaces from raw points or triangle soup, without a prior."""
