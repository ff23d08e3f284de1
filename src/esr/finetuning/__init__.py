"""Fine-tuning on masked self-corrections: examples, mixtures, axolotl's configuration, masks."""
