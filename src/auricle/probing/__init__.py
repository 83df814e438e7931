"""Linear probes: what the layers of a frozen encoder make easy to tell (the extra `probe`)."""
