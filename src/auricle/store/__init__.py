"""A folder of representations: what lies where, written so that a kill loses nothing, read back."""
