"""Fine-tuning on masked self-corrections: examples, mixtures, axolotl's configuration, masks."""

CORRECTION, ANSWER = "correction", "answer"
"""Kinds of example: off-topic start, correction and answer; or an answer alone."""
