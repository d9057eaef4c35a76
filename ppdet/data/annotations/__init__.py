"""Annotation files of other tools, and the images that they label: before a data set is trained on."""
