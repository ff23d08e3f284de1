"""Self-report of an injected direction, beside behaviour (docs/introspection.md)."""
