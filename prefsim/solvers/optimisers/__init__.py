"""Newton steps, penalties and gradients of policies."""
