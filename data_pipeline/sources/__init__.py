"""Data sets on disk: COCO JSON, VisDrone; parsing, cleaning, building."""
