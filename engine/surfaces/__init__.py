"""From fields to meshes: marching cubes, clean-up, decimation."""
