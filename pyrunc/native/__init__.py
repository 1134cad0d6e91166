"""The C: the interpreter of programs, and the border's few functions."""
