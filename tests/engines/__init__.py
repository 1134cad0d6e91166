"""The real container engines, each in a scratch folder of its own, with the installed runtime below them."""
