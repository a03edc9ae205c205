"""Shape libraries, supervision and the training loop."""
