"""Experiments by name: each module defines `experiment`."""
