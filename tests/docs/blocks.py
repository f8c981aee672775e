"""The fenced blocks of a page in Markdown, and the commands of a shell block."""

import re
from pathlib import Path
from typing import NamedTuple

FENCE = "```"


class Block(NamedTuple):
    """``language`` is what stands behind the fence; ``line`` is that of the fence, from 1."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All of a page, in order. Fences are three backticks at the beginning of a line."""
    found: list[Block] = []
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.lstrip().startswith(FENCE):
            assert line.startswith(FENCE), f"{page.name}:{number}: an indented fence is not seen"
            inside = not inside
            if inside:
                found.append(Block(page, number, line.removeprefix(FENCE).strip(), ""))
            else:
                assert line == FENCE, f"{page.name}:{number}: the block before is not closed"
        elif inside:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}{line}\n")
    assert not inside, f"{page.name}: the last block is not closed"
    return found


def commands(text: str) -> list[str]:
    """Of a shell block: continued lines joined, comments and empty lines left out."""
    lines = text.replace("\\\n", " ").splitlines()
    bare = (re.sub(r"(^|\s)#\s.*", "", line) for line in lines)
    return [" ".join(line.split()) for line in bare if line.strip()]
