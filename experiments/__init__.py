"""Experiments: one plain Python file for each config, benchmark or figure, and results with the commands to repeat."""
