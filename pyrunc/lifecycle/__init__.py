"""Stage 5: the verbs over time."""
