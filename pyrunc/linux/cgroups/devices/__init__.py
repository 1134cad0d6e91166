"""Which devices a container may make, read and write: rules, their v1 list and their v2 program."""
