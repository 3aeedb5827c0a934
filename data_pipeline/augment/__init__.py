"""Random augmentation of images and boxes."""
