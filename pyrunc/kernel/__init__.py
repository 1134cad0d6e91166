"""The one border to the kernel: one call per function, no policy."""
