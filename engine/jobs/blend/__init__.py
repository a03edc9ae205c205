"""In-betweens of shapes."""
