"""Accidents that befall a file."""

from hypothesis import strategies as st

LONG = [b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\x00\x01\x00\x00"]  # where a length may stand


@st.composite
def damaged(draw, contents: st.SearchStrategy[bytes]) -> bytes:
    """A file after one to four accidents; now and then it is as it was."""
    made = bytearray(draw(contents))
    for _ in range(draw(st.integers(1, 4), label="accidents")):
        at = draw(st.integers(0, len(made)), label="at")
        until = at + draw(st.sampled_from([1, 2, 5, 30]))
        kind = draw(st.sampled_from(["flip", "write", "cut", "insert", "drop", "repeat", "length"]))
        if kind == "flip" and at < len(made):
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "write":
            made[at:until] = draw(st.binary(min_size=1, max_size=30))[: until - at]
        elif kind == "cut":
            del made[at:]
        elif kind == "insert":
            made[at:at] = draw(st.binary(min_size=1, max_size=30))
        elif kind == "drop":
            del made[at:until]
        elif kind == "repeat":
            made[at:at] = made[at:until]
        elif kind == "length":
            made[at : at + 4] = draw(st.sampled_from(LONG))
    return bytes(made)


def one_line_naming(error: Exception, path: object) -> bool:
    """Whether the message is one line that begins with the file and ends with a remedy."""
    text = str(error)
    return text.startswith(f"{path}: ") and len(text.splitlines()) == 1 and "; " in text
