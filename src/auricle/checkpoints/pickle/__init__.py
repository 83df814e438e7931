"""A reader of the pickles in checkpoints that never runs them; README.md explains it."""
