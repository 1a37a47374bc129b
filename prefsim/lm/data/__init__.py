"""Text to train on, in the ecosystem's columns, and the containers of losses built from it."""
