"""What the features' panels and operators share."""
