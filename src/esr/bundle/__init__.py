"""Bundles: every result that cost GPU hours or money, in one file."""
