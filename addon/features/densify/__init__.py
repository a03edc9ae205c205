"""The feature densify."""
