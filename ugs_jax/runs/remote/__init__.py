"""Runs at URLs: file stores, and copies of run folders in them."""
