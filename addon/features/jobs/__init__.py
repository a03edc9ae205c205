"""The feature jobs."""
