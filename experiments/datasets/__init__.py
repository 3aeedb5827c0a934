"""Scripts that prepare data sets for experiments."""
