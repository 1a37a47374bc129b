"""Maximum likelihood of choices, rankings and segments."""
