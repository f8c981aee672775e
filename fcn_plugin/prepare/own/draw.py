"""Draw the images to score on: by a hash of names, whole scenes, every class in both parts."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.source import Job

# A frame of a film: the scene and a number. Names tell scenes apart if there are several, none
# with more than half of the images.
FRAME = re.compile(r"(.+?)[_-]*\d{3,}\D?")
FEWEST_SCENES, LARGEST_SCENE = 5, 0.5
SURPLUS = 1.5  # whole scenes may be this many times the share that is asked for


def drawn(classes: Mapping[str, Set[int]], job: Job) -> tuple[list[str], list[str]]:
    """The names to train on and the names to score on, both sorted.

    Args:
        classes: for each image, the classes that it shows.

    Raises:
        UserError: there are fewer than two images.
    """
    if len(classes) < 2:
        raise UserError(
            f"{job.folder}: {len(classes)} labelled image to train on; at least 2 are needed, one "
            "to train on and one to score"
        )
    scenes = scenes_of(list(classes))
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(scenes.get(name, name), []).append(name)
    # In the order of a hash, so that another image moves hardly any other.
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{job.seed} {name}".encode()).digest())
    shows = {group: set().union(*(classes[name] for name in groups[group])) for group in order}
    # The number of groups that show each class, of all and of those to train on.
    showing = Counter(value for values in shows.values() for value in values)
    left = Counter(showing)
    wanted = min(max(round(job.val * len(classes)), 1), len(classes) - 1)
    scored: set[str] = set()
    images = 0  # in the groups that are scored

    def score(group: str, most: float) -> bool:
        """Take a group if its classes all stay to train on, of those that two groups show."""
        nonlocal images
        stay = all(left[value] > 1 for value in shows[group] if showing[value] > 1)
        is_last = len(scored) + 1 == len(order)
        if group in scored or is_last or not stay or images + len(groups[group]) > most:
            return False
        scored.add(group)
        images += len(groups[group])
        left.subtract(shows[group])
        return True

    # First a group with each class, the rarest class first; then others. A group that may not be
    # taken once may not be later.
    for value in sorted(showing, key=lambda value: (showing[value], value)):
        if showing[value] > 1 and left[value] == showing[value]:
            any(score(group, len(classes) / 2) for group in order if value in shows[group])
    for group in order:
        if images < wanted:
            score(group, max(1, SURPLUS * wanted))
    if not scored:
        scored.add(min(order, key=lambda group: len(groups[group])))
    if scenes:
        job.note(
            f"{job.folder}: names tell {len(groups)} scenes, which stay together; "
            f"{len(scored)} of them are scored on"
        )
    val = {name for group in scored for name in groups[group]}
    return sorted(classes.keys() - val), sorted(val)


def scenes_of(names: Sequence[str]) -> dict[str, str]:
    """The scene of each name; empty if the names do not tell scenes.

    >>> names = [f"{scene}_{frame:06d}" for scene in "abcde" for frame in range(3)]
    >>> scenes_of(names)["b_000002"]
    'b'
    >>> scenes_of([f"photo_{number:04d}" for number in range(9)])
    {}
    """
    matches = {name: FRAME.fullmatch(name) for name in names}
    scenes = {name: match[1] for name, match in matches.items() if match}
    sizes = Counter(scenes.get(name, name) for name in names)
    together = sum(size for size in sizes.values() if size > 1)
    tells = (
        len(sizes) >= FEWEST_SCENES
        and together > len(names) / 2
        and max(sizes.values()) <= LARGEST_SCENE * len(names)
    )
    return scenes if tells else {}
