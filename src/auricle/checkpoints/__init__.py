"""From an original checkpoint to (config, weights), without running anything in it."""
