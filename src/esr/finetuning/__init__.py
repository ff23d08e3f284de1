"""Fine-tuning on masked self-corrections: examples, mixtures, axolotl's configuration, masks."""

CORRECTION, ANSWER = "correction", "answer"
"""Kinds of example: one that strays, notices and answers, and one that just answers."""
