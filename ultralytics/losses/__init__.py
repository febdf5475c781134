"""Losses of the detectors: matching of predictions and targets, and the terms computed from it."""
