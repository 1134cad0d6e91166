"""Seccomp: profile to filter, cached."""
