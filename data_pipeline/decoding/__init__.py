"""Image files: headers, orientation and decoding to pixels."""
