"""Gated multimodal adapters inside a frozen text encoder, as a PEFT method."""
