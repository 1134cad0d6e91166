"""Mounts: options, rules, order, emission (config.md "Mounts"). `plan` tells the order of the whole phase."""

from pyrunc.linux.mounts.rules import check

__all__ = ["check"]
