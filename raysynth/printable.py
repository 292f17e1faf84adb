"""Text from a table as it may stand in a page or a file for machines."""


def printable(text: str) -> str:
    """The text in one line, without control characters and marks that turn its direction.

    What is left is valid in XML.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
