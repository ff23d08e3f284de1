"""The report of a study: one static site, made from the study's files, that works from disk."""
