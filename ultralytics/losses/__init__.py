"""Losses of the detectors: matching of predictions and boxes, and the terms computed from the pairs."""
