"""Pictures of representations; needs matplotlib (the extra `plot`)."""
