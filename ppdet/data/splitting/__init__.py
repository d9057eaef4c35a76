"""Labelled and unlabelled parts of a data set, for semi-supervised training."""
