"""Files: atomic writes, digests, locks, safetensors, the library's own checkpoint format."""
