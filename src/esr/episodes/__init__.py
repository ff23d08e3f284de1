"""Self-corrections read token by token."""
