"""Experiments: one plain Python file a config, a benchmark or a figure; results with what it takes to repeat them."""
