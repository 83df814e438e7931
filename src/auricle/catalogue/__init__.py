"""The catalogue: families, their published sizes and checkpoints, as data; free of torch."""
