"""The job that proves an engine works."""
