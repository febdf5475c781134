"""Detection metrics: matching of predictions and ground truth, precision, recall and average precision."""
