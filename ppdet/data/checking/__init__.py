"""Looking at a data set before training: what its files list, what its images are, and how its boxes fit FCOS."""
