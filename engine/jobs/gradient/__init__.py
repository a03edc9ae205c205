"""Points and surfaces from a gradient field."""
