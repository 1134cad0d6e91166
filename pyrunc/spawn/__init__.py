"""Stage 4: start init, and talk with it."""
