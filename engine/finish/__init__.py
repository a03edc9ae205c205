"""What makes a surface an asset: its soundness measured, and the finish that comes after the completion."""
