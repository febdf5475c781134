"""Functions of the published interface that this package itself does not use; `utils/public.py` has their places."""
