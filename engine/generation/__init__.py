"""New shapes from a prior's latent distribution: samples, relatives, in-betweens, sliders."""
