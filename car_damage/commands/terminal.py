"""What may be printed on a terminal."""


def printable(text: str) -> str:
    """Text without characters that could steer a terminal: they are shown escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
