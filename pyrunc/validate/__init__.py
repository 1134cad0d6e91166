"""Stage 2: is it sound; every problem at once, with its JSON path."""
