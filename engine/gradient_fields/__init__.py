"""Gradient fields (ShapeGF, Cai 2020): shapes as the gradient of the log density of their surface points."""
