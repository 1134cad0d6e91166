"""What survives between two calls."""
