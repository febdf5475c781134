"""What a model looks at: class-activation maps, sampling points, attention, and the effective receptive field."""
