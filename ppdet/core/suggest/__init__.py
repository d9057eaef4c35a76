"""Suggestions for names that do not exist here."""
