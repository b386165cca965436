"""Commands for a shell, taken apart."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

#: What stands between commands; behind the second kind stands a file.
_BETWEEN = {"|", "||", "&&", ";", "&"}
_REDIRECTIONS = {">", ">>", "<", "2>"}
_FROM_COMMANDS = re.compile(r"\$\([^()]*\)")


@dataclass
class Call:
    """One program and its arguments. ``variables``: those that are set for it alone, in front."""

    variables: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    @property
    def program(self) -> str:
        """Without its folder."""
        return self.words[0].rpartition("/")[2]

    @property
    def arguments(self) -> list[str]:
        return self.words[1:]

    def __str__(self) -> str:
        return shlex.join(self.words)


def calls(text: str) -> Iterator[Call]:
    """Those of a script, in their order. What it takes from other commands, ``$(...)``, is SAID."""
    for line in _lines(_FROM_COMMANDS.sub("SAID", text)):
        parts = groupby(line, key=lambda word: word in _BETWEEN)
        for words in (list(group) for between, group in parts if not between):
            call = Call()
            while words:
                word = words.pop(0)
                name, equals, value = word.partition("=")
                if word in _REDIRECTIONS:
                    words = words[1:]
                elif equals and not call.words and name.isidentifier():
                    call.variables[name] = value
                else:
                    call.words.append(word)
            if call.words:
                yield call


def _lines(text: str) -> Iterator[list[str]]:
    """The words of each line; a line that ends within quotes goes on with the next."""
    begun = ""
    for line in text.replace("\\\n", " ").splitlines():
        begun += line
        lexer = shlex.shlex(begun, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        try:
            yield list(lexer)
        except ValueError:
            begun += "\n"
        else:
            begun = ""
    assert not begun, f"quotes are not closed: {begun}"
