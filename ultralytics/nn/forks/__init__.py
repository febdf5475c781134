"""Modules written for other code bases: imports of their folders, what is missing here, and constructor calls."""
