"""Models, SAEs, labels, prompts and environments: their sources and manifests."""
