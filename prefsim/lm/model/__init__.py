"""A language model: tokens, logits, log-probabilities, references."""
