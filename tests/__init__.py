"""Tests. See docs/design.md and CONTRIBUTING.md for the layers."""
