"""Splitting a data set into a labelled and an unlabelled part, for semi-supervised training."""
