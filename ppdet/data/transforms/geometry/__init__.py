"""What moves the pixels of a single image, and its boxes with them: resizing, flips, crops, warps."""
