"""Networks: model files, layers, weights and export formats."""
