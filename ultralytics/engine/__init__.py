"""Training, validation and prediction: the loops around a network."""
