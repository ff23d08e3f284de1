"""Steering directions that are no decoder rows: random, from a file, or contrasts of texts."""
