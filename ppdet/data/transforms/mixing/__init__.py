"""What makes one image of several images of the data set: Mosaic, Mixup, Cutmix."""
