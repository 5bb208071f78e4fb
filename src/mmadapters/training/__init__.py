"""Training of adapters and head on the Hugging Face Trainer."""
