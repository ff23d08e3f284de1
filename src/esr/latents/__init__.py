"""Selection of the latents that are steered: candidates, ratings, relevance."""
