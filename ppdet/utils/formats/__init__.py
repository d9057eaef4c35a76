"""Reading file formats of other projects, without running code that a file contains."""
