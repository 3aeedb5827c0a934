"""Runs at URLs: a store of whole objects, and what keeps a copy of a run folder there."""
