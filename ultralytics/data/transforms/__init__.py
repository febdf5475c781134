"""Transforms of a `Sample`: each draws its random numbers once and applies them to image and boxes alike."""
