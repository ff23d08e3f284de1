"""The sample that every judge grades, and agreement of the judges on it."""
