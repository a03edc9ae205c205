"""A trained prior: its file, where priors are found, and the latent distribution."""
