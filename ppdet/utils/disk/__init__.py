"""Files on disk: written atomically, locked, unpacked, downloaded, and images found among them."""
