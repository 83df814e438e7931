"""Pretraining: a recipe and audio in, a checkpoint of the library's own out."""
