"""Logging, downloads, files and processes, for use by all other packages."""
