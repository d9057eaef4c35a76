"""Files that hold weights and training state: writing them whole, and reading them without running code."""
