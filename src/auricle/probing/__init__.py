"""Linear probes: evaluation of the layers of a frozen encoder (the extra `probe`)."""
