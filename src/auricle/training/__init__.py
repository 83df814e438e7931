"""Pretraining: a recipe and audio files to a checkpoint in the native format."""
