"""What a job leaves in the scene: its preview while it runs, its results at its end."""
