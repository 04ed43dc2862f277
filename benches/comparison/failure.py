"""How a comparison fails."""


class Failure(Exception):
    """What keeps the comparison, or one load of it, from being made, as a sentence for the user."""
