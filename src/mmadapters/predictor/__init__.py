"""From a table to a multimodal model and its predictions, in one object."""
