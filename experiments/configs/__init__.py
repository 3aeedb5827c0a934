"""Configs of experiments. Each module defines a variable `experiment`, and its name is the name of the config."""
