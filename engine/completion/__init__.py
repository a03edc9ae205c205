"""From observed points to whole shapes: pose, latent optimisation, refinement."""
