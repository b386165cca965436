"""What a Dockerfile says, read as far as tests need it."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """In exec form those of the list, else those that a shell would see."""
        if self.text.startswith("["):
            return list(json.loads(self.text))
        return shlex.split(self.text)

    @property
    def values(self) -> dict[str, str]:
        """Of ARG, ENV and LABEL."""
        return dict(word.split("=", 1) for word in self.words if "=" in word)


def stages(path: Path) -> list[list[Instruction]]:
    """The instructions of each stage, FROM first; the first stage is what stands before it."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, re.sub(r"\s+", " ", rest)))
    return found


def only(stage: list[Instruction], name: str) -> Instruction:
    (found,) = [each for each in stage if each.name == name]
    return found
