"""Trained models behind HTTP: requests are checked, batched over callers and models, and answered."""
