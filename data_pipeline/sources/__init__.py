"""Data sets on disk, COCO JSON and VisDrone: parsing, checks and conversion."""
