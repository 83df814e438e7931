"""Inference beyond a plain call: windows, reduced precision, streams."""
