"""What a container gets and a caller sees: one file per feature, with a payload that testifies from inside."""
