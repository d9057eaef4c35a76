"""File formats of others, read without running code."""
