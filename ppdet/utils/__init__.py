"""Logging, downloads and files: what every other floor may use."""
