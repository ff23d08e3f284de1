"""Measures, comparisons, trends, claims."""
