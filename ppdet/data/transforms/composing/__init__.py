"""Lists of transforms: applying them in turn, a random choice between two, and in which order they can be listed."""
