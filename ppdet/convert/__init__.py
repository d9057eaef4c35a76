"""Weights of other code bases, under this project's names."""
