"""The encoders, one family (one paper) per file; `base` is the contract they all keep."""
