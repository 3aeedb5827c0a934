"""The embedded synthetic data set: procedural aerial scenes."""
