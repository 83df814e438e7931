"""Streams: the steps by which each family takes samples a few at a time."""
