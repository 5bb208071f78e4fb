"""Pictures of evaluation results: they know metrics, never models."""
