"""Encoders in the shapes that other software asks for; each module is imported by itself."""
