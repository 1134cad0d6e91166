"""The door: words in, exit status out."""
