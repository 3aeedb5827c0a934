"""Overlapping tiles of large images, for training and for inference."""
