"""Engines: one small protocol, one meaning; `base` defines both."""
