"""One module a paper: its card, its claims and its reproduction."""
