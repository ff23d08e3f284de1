"""Checks and estimates made before any job runs."""
