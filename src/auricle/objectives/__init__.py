"""The pretraining losses, one family per file; `base` is what they share."""
