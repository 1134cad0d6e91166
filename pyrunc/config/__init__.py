"""Stage 1: what was asked (config.json as it is)."""
