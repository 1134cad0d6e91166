"""pyrunc: an OCI container runtime that compiles config.json into a program of system calls."""

__version__ = "0.1.0"

#: The runtime-spec version that config.json is checked against and that `state` reports.
SPEC_VERSION = "1.3.0"
