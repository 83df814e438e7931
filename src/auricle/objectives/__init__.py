"""Pretraining objectives: an encoder with its heads, and the loss of its paper."""
