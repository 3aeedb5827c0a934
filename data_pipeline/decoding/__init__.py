"""Files to pixels: decoding, orientation, headers."""
