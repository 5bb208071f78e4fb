"""What the adapters are compared with."""
