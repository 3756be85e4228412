"""Pictures as PNG files: learning curves, attention."""
