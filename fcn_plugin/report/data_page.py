"""The page about a data set, to be looked at before training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from fcn_plugin.errors import some, width_by_height
from fcn_plugin.evaluation.drawing import VOID
from fcn_plugin.report.data_facts import Split, splits_of
from fcn_plugin.report.data_findings import Finding, Pair, findings, pairs_of
from fcn_plugin.report.data_pictures import Chosen, augmented, gallery, thumbnails
from fcn_plugin.report.rendering import hex_colour, in_percent, rendered
from fcn_plugin.system.configs import config_file, innermost, pipeline_of, type_name
from fcn_plugin.system.files import replacing
from fcn_plugin.system.progress import Progress, silent

PAIRS = 8  # most pairs of near duplicates shown
SIZES = 8  # most sizes listed
CHART = 300, 200  # greatest width and height of the chart of sizes


@dataclass
class DataFacts:
    """A data set to write a page about.

    Attributes:
        splits: the training set first.
        pairs: near duplicates between it and the others.
        augmented: pictures after the training pipeline, whose ``steps`` are in words.
        seed: what they were drawn with, and what the training draws with, in words.
    """

    name: str
    splits: Sequence[Split]
    pairs: Sequence[Pair]
    findings: Sequence[Finding]
    augmented: Sequence[dict[str, Any]] = ()
    steps: str = ""
    seed: str = ""

    @property
    def summary(self) -> str:
        """Such as "60 train and 20 val pictures of 5 classes"."""
        counts = [f"{len(split.pictures):,} {split.name}" for split in self.splits]
        listed = " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
        return f"{listed} pictures of {len(self.splits[0].meta['classes'])} classes"


def write_data_page_of(
    config: str | Path | Config,
    file: Path,
    augmentation: bool = False,
    progress: Progress = silent,
) -> DataFacts:
    """Look at the data sets of a config and write the page about them.

    Args:
        config: a config, its file, or the name of a shipped one.
        file: the page.
        augmentation: also show training pictures after the whole pipeline.

    Raises:
        UserError: a data set is missing or incomplete, or no picture of it can be read.
    """
    cfg = config if isinstance(config, Config) else Config.fromfile(config_file(config))
    splits = splits_of(cfg, progress)
    pairs = pairs_of(splits)
    roots = [part.get("data_root") for part in innermost(cfg.train_dataloader.dataset)]
    names = [Path(root).resolve().name for root in roots if root] or [
        Path(cfg.filename or "data").stem
    ]
    name = " and ".join(dict.fromkeys(names))
    facts = DataFacts(name, splits, pairs, findings(splits, pairs))
    if augmentation:
        seed = (cfg.get("randomness") or {}).get("seed")
        facts.augmented = list(augmented(splits[0], seed or 0, progress))
        steps = pipeline_of(cfg.train_dataloader.dataset)
        facts.steps, facts.seed = ", ".join(map(type_name, steps)), _seed_in_words(seed)
    write_data_page(facts, file, progress)
    return facts


def write_data_page(facts: DataFacts, file: Path, progress: Progress = silent) -> None:
    """Write the page, whole or not at all; its pictures are loaded again for it."""
    chosen = gallery(facts.splits)
    pairs = facts.pairs[:PAIRS]
    ends = [(pair.train, facts.splits[0]) for pair in pairs]
    ends += [(pair.other, pair.split) for pair in pairs]
    figures = []
    for figure in thumbnails([*chosen, *(Chosen(split, picture, ()) for picture, split in ends)]):
        figures.append(figure)
        progress("Making small pictures", len(figures), len(chosen) + len(ends))
    shown, first, second = np.split(
        np.array(figures, object), [len(chosen), len(chosen) + len(pairs)]
    )
    seen = {index for figure in shown for index, *_ in figure["legend"]}
    classes = facts.splits[0].meta["classes"]
    text = rendered(
        "data_page.html",
        facts=facts,
        classes=_class_rows(facts.splits),
        sizes=_sizes(facts.splits),
        gallery=shown.tolist(),
        unseen=some([name for i, name in enumerate(classes) if i not in seen]),
        pairs=list(zip(first, second, strict=True)),
    )
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8")


def _seed_in_words(seed: int | None) -> str:
    if seed is None:
        return (
            "Drawn with seed 0, so that this page is the same each time. The config sets no "
            "randomness.seed: each training draws others."
        )
    return (
        f"Drawn with the config's randomness.seed={seed}; the training draws others, because its "
        "random numbers also depend on the iteration."
    )


def _class_rows(splits: Sequence[Split]) -> list[dict[str, Any]]:
    """A row for each class, and one for void."""
    meta = splits[0].meta
    colours = [*map(hex_colour, meta["palette"])]
    rows = [
        dict(number=number, name=name, colour=colour)
        for number, name, colour in zip(splits[0].numbers, meta["classes"], colours, strict=True)
    ]
    rows.append(dict(number="", name="void", colour=hex_colour(VOID)))
    for i, row in enumerate(rows):
        pixels = [(split.counts[:, i].sum(), split.counts.sum()) for split in splits]
        row["shares"] = [in_percent(part / whole if whole else np.nan) for part, whole in pixels]
        row["pictures"] = [int(np.count_nonzero(split.counts[:, i])) for split in splits]
    return rows


def _sizes(splits: Sequence[Split]) -> dict[str, Any]:
    """The sizes of all pictures: in words, and as points of a chart with equal axes."""
    counts = Counter(picture.size for split in splits for picture in split.pictures)
    total = counts.total()
    listed = [(width_by_height(size), f"{count:,}") for size, count in counts.most_common(SIZES)]
    height, width = (max(size[axis] for size in counts) for axis in (0, 1))
    scale = min(CHART[0] / width, CHART[1] / height)
    points = [
        dict(
            x=scale * columns,
            y=scale * (height - rows),
            radius=2 + 8 * (count / total) ** 0.5,
            title=f"{width_by_height((rows, columns))}: {count:,}",
        )
        for (rows, columns), count in counts.items()
    ]
    return dict(
        different=len(counts),
        listed=listed,
        points=points,
        width=width,
        height=height,
        right=scale * width,
        bottom=scale * height,
    )
