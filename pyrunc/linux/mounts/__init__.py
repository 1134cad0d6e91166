"""Mounts: options, order, emission."""
