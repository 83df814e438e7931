"""Ways to write representations down, one per file: each is read by the libraries that know it."""
