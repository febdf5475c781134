"""Data sets: reading, checking, augmenting, loading."""
