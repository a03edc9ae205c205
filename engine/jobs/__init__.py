"""What a job is: request in, progress and previews on the way, meshes and a report out."""
