"""The CPU's fast way of inference: when it may be taken, and weights in its kernels' layout."""
