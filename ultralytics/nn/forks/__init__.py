"""Folders of module files written for other code bases: their imports, and what is missing here."""
