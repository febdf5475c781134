"""Metrics of detections: matching with labels, average precision, COCO's official numbers, tables."""
