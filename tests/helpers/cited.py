"""A number as a page cites it."""


def cite(name: str, shown: str, form: str = "") -> str:
    """Text of a citation of a number of the study that shows something."""
    return f"<!-- {name}{form and ' ' + form} -->{shown}<!-- / -->"
