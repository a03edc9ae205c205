"""What a family sees of a scan."""
