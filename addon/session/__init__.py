"""The running jobs, and the one engine that they run on."""
