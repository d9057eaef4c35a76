"""What changes the values of a single image's pixels and leaves boxes alone: colors, blur, noise, what is covered."""
