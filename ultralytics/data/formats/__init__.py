"""Detections written as labels that annotation tools import, one file a format. Imports no torch."""

from ultralytics.data.formats.write import FORMATS, LabelWriters, write_labels

__all__ = ["FORMATS", "LabelWriters", "write_labels"]
