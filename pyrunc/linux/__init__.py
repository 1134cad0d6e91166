"""The rooms: one per kernel subject, each with check() and plan()."""
