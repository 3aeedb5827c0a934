"""The `ugs` commands, one file each."""
