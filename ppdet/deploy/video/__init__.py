"""Videos, streams and cameras: reading frames with their times, and writing what is detected in them."""
