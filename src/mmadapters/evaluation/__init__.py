"""From a trained model and rows to predictions, metrics and gates."""
