"""What a rule that cannot be read is refused with."""

from __future__ import annotations


class RuleError(ValueError):
    """A rule is not valid; the frontend that holds it must not be loaded.

    ``message`` says what is wrong, ``route`` is the name of the route (empty when the rule stood
    alone), ``rule`` its raw text, ``position`` the offset in characters at which the trouble
    starts, ``expected`` what would be right and ``nearest`` the matcher name that was probably
    meant (both may be empty).
    """

    def __init__(
        self,
        message: str,
        *,
        rule: str,
        position: int = 0,
        expected: str = "",
        nearest: str = "",
        route: str = "",
    ) -> None:
        """Keep everything; see the class."""
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.position = position
        self.expected = expected
        self.nearest = nearest
        self.route = route

    def __str__(self) -> str:
        """One line: route, place, message, expected, nearest name."""
        place = f"route `{self.route}`: " if self.route else ""
        text = f"{place}{self.message} (column {self.position + 1} of {shorten(self.rule)!r})"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.nearest:
            text += f"; did you mean `{self.nearest}`?"
        return text


def shorten(text: str, limit: int = 120) -> str:
    """Return ``text``, cut to ``limit`` characters that end with three dots if it is longer."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
