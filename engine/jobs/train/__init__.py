"""Train Prior: a prior learnt from meshes."""
