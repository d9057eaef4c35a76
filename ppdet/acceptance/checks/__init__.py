"""The checks, one file for each group or subject; a file that is put here is found."""
