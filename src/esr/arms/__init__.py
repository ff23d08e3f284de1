"""Arms of trials: plan, prompts, responses, scores."""
