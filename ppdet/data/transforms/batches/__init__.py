"""What works on the samples of a batch: one size for all images, padding, and the training targets of FCOS."""
