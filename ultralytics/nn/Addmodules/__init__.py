"""Modules that extend the package, one file each. A file placed here is imported when a model is first built."""
