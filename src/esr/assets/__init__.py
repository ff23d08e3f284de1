"""Models, SAEs, labels, prompts and environments: where they come from and what they are."""
