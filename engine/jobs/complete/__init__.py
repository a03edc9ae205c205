"""Complete Shape: the rest of a shape of which a part is seen."""
