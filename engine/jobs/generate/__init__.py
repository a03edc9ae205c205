"""New shapes from the distribution of a prior."""
