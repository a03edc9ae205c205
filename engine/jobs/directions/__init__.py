"""Which sliders there are."""
