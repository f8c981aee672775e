"""List the shipped configs, all or those with certain words.

The list has the data that each is trained on, its number of parameters, the weights that it starts
from, and the package that it needs besides.

fcn-plugin configs fcn8s ade20k
fcn-plugin configs fcn8s_vgg16_voc
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from common import next_step, run
from parsing import ToolParser

# Without fcn_plugin and mmengine, which would take seconds.
SHIPPED = Path(__file__).resolve().parents[1]
INDEX = "model-index.yml"
# Heading -> its key in the index's entry or in that entry's Metadata.
COLUMNS = {
    "method_backbone_data": "Name",
    "data": "Training Data",
    "size": "Parameters",
    "starts from": "Starts From",
    "needs": "Needs",
}


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.group("configs").add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="only those with all these words; of a whole name, what the config says of itself",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    configs = {config["Name"]: config for config in index()}
    chosen = [configs.get(" ".join(args.words).removesuffix(".py"))]
    if chosen == [None]:
        chosen = [config for config in configs.values() if has_words(config, args.words)]
    if not chosen:
        sys.exit(f"error: no config has {' and '.join(args.words)}; fcn-plugin configs lists all")
    print(table(chosen))
    name = "NAME"
    if len(chosen) == 1:
        name = chosen[0]["Name"]
        file = SHIPPED / chosen[0]["Config"]
        print("", file.read_text(encoding="utf-8").split('"""')[1].rstrip(), sep="\n")
    print(f"\nDone: {len(chosen)} of {len(configs)} configs")
    print(next_step("train", name))


def index() -> list[dict[str, Any]]:
    """The shipped configs with their facts: mim's index of models."""
    import yaml

    files = yaml.safe_load((SHIPPED / INDEX).read_text(encoding="utf-8"))["Import"]
    texts = ((SHIPPED / file).read_text(encoding="utf-8") for file in files)
    models = [model for text in texts for model in yaml.safe_load(text)["Models"]]
    return [model | model["Metadata"] for model in models]


def cells(config: dict[str, Any]) -> list[str]:
    values = (config.get(key, "") for key in COLUMNS.values())
    return [f"{value / 1e6:.1f} M" if isinstance(value, int) else value for value in values]


def has_words(config: dict[str, Any], words: list[str]) -> bool:
    text = " ".join(cells(config)).lower()
    text += text.replace(" ", "")  # for "voc2012", as prepare_data has it
    return all(word.lower() in text for word in words)


def table(configs: list[dict[str, Any]]) -> str:
    from prettytable import PrettyTable

    table = PrettyTable([*COLUMNS], align="l", border=False, left_padding_width=0)
    table.align["size"] = "r"
    table.add_rows([cells(config) for config in configs])
    return table.get_string()


if __name__ == "__main__":
    run(main)
