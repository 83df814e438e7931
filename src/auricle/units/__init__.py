"""Discrete units: codebooks over a layer, their fitting, and reading of those of others."""
