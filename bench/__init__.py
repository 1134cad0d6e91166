"""Measures pyrunc beside runc and crun: one session, the same bundle, taking turns. Run by `make bench`."""
