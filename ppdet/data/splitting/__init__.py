"""Splitting a data set into a labeled and an unlabeled part, for semi-supervised training."""
