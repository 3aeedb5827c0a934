"""Data sets on disk, COCO JSON, YOLO folders and VisDrone: recognition, parsing, checks and conversion."""
