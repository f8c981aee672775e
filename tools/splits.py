"""Choose the split of a config's test data set; for the tools that score."""

SCORED = ("test", "val")  # without a name the first of these that has labels is scored
MAIN = ("aAcc", "mAcc", "mIoU", "fwIoU", "score")  # scores of the last line


def choose_split(cfg, split: str, config: str, option: str = "--split") -> None:
    """Set the test data set of ``cfg`` (mmengine's) to a split of its table ``splits``.

    ``config`` and ``option`` are the names of the config and of the option, for errors.
    """
    from fcn_plugin.errors import UserError
    from fcn_plugin.system.configs import wrapped

    splits, dataset = cfg.get("splits"), cfg.test_dataloader.dataset
    if not splits:
        raise UserError(f"{option}: {config} has no table splits; add one, or leave it out")
    if split not in splits:
        raise UserError(f"{option} {split}: {config} has only {', '.join(splits)}")
    if wrapped(dataset):
        raise UserError(
            f"{option}: test_dataloader.dataset of {config} wraps others; edit the config"
        )
    # One by one: update() would merge nested dicts, and test images would keep val's labels.
    for key, value in splits[split].items():
        dataset[key] = value


def choose_scored(cfg, split: str | None, config: str) -> None:  # cfg: mmengine.Config
    """Set the test data set to a split that can be scored: ``split``, else test, else val.

    A config without a table ``splits`` keeps its test data set.

    Raises:
        UserError: there is no such split, or none with labels.
    """
    from fcn_plugin.errors import UserError

    if cfg.get("test_dataloader") is None:
        raise UserError(f"--test: {config} has no test_dataloader; add one, or leave it out")
    dataset, splits = cfg.test_dataloader.dataset, cfg.get("splits") or {}
    names = [name for name in SCORED if name in splits]
    # A plain dict: mmengine's | would merge nested ones.
    labelled = [name for name in names if has_labels({**dataset, **splits[name]})]
    if name := split or next(iter(labelled), None):
        choose_split(cfg, name, config, "--test")
    if not has_labels(cfg.test_dataloader.dataset):
        raise UserError(
            f"--test: the images of {split or 'the test data set'} have no labels to score against "
            f"({config}); leave it out, and predict them: fcn-plugin test --split NAME --out DIR"
        )


def all_scores(scores: dict[str, float]) -> str:
    """A table of scores with two decimals, and of their intervals if there are some."""
    from fcn_plugin.evaluation.intervals import HIGH, LOW
    from fcn_plugin.evaluation.tables import class_table, in_brackets

    bounds = {name: (scores.get(name + LOW), scores.get(name + HIGH)) for name in scores}
    ends = {name + end for name, pair in bounds.items() if None not in pair for end in (LOW, HIGH)}
    names = [name for name in scores if name not in ends]
    columns: dict[str, list] = {"value": [float(scores[name]) for name in names]}
    if ends:
        pairs = [bounds[name] for name in names]
        columns["interval"] = [
            "" if None in pair else in_brackets(pair, whole=100) for pair in pairs
        ]
    return class_table(names, columns, heading="score")


def score_line(scores: dict[str, float]) -> str:
    """The main scores in one line with one decimal, of the mean IU with its interval if it has one.

    For example: ``aAcc 91.2  mAcc 77.6  mIoU 65.5 [64.2, 66.9]  fwIoU 84.5``. Of scores with other
    names, all.
    """
    from fcn_plugin.evaluation.intervals import HIGH, LOW

    texts = []
    for name in [name for name in scores if name.rpartition("/")[2] in MAIN] or [*scores]:
        text, low, high = f"{name} {scores[name]:.1f}", name + LOW, name + HIGH
        if name.endswith("mIoU") and {low, high} <= scores.keys():
            text += f" [{scores[low]:.1f}, {scores[high]:.1f}]"
        texts.append(text)
    return "  ".join(texts)


def has_labels(dataset: dict) -> bool:
    """Whether a data set has labels, by its config; of wrapped data sets, whether any has."""
    from fcn_plugin.system.configs import innermost

    prefixes = [part.get("data_prefix") for part in innermost(dataset)]
    return any(prefix is None or prefix.get("seg_map_path") is not None for prefix in prefixes)
