"""List the shipped configs, all or those with certain words.

The list has the data that each is trained on, its number of parameters, the weights that it starts
from, and what it needs: data sets of fcn-plugin prepare_data, and perhaps a package.

fcn-plugin configs fcn8s ade20k
fcn-plugin configs fcn8s_vgg16_voc
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from common import run
from parsing import ToolParser

# Without fcn_plugin and mmengine, which would take seconds.
SHIPPED = Path(__file__).resolve().parents[1]
INDEX = "model-index.yml"
# Heading -> its keys in the index's entry or in that entry's Metadata.
COLUMNS = {
    "method_backbone_data": ("Name",),
    "data": ("Training Data",),
    "size": ("Parameters",),
    "starts from": ("Starts From",),
    "needs": ("Data Sets", "Needs"),
}
# A config says of itself how it is trained, perhaps in a chain: the words after "fcn-plugin".
TRAINING = re.compile(r"^ *fcn-plugin (train(?:_stages)?(?: .*)?)$", re.MULTILINE)


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
    training = "train NAME"
    if len(chosen) == 1:
        text = head(chosen[0])
        training = training_of(chosen[0], text)
        print("", text, "", "Its data:", *preparations(chosen[0]), sep="\n")
    print(f"\nDone: {len(chosen)} of {len(configs)} configs")
    print(f"Next: fcn-plugin {training}")


def index() -> list[dict[str, Any]]:
    """The shipped configs with their facts: mim's index of models."""
    import yaml

    files = yaml.safe_load((SHIPPED / INDEX).read_text(encoding="utf-8"))["Import"]
    texts = ((SHIPPED / file).read_text(encoding="utf-8") for file in files)
    models = [model for text in texts for model in yaml.safe_load(text)["Models"]]
    return [model | model["Metadata"] for model in models]


def head(config: dict[str, Any]) -> str:
    """What a config says of itself."""
    return (SHIPPED / config["Config"]).read_text(encoding="utf-8").split('"""')[1].rstrip()


def training_of(config: dict[str, Any], text: str) -> str:
    """The words after "fcn-plugin" that train a config, as its head ``text`` has them."""
    stated = TRAINING.search(re.sub(r" *# .*", "", text))
    return stated[1] if stated else f"train {config['Name']}"


def preparations(config: dict[str, Any]) -> list[str]:
    """The commands that prepare a config's data."""
    return [f"    fcn-plugin prepare_data {name}" for name in config["Data Sets"].split(", ")]


def cells(config: dict[str, Any]) -> list[str]:
    return [
        ", ".join(text_of(config[key]) for key in keys if key in config)
        for keys in COLUMNS.values()
    ]


def text_of(value: str | int) -> str:
    return f"{value / 1e6:.1f} M" if isinstance(value, int) else value


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
