"""Composing a configuration: merging files, checking values, building components, finding settings without effect."""
