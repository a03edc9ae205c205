"""What makes one shape out of another, done to a third."""
