"""Files: written whole, locked, digested; safetensors and the library's own checkpoint format."""
