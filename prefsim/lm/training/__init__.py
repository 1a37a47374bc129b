"""From text and a loss to a trained model."""
