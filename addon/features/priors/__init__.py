"""The feature priors."""
