"""The model card of published weights: what hubs read at its head, and what people read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from fcn_plugin.errors import printable, without_secrets
from fcn_plugin.evaluation.tables import in_brackets
from fcn_plugin.publish.facts import UNKNOWN, Facts
from fcn_plugin.publish.folder import CONFIG
from fcn_plugin.publish.results import SCORES, Result
from fcn_plugin.version import __version__
from fcn_plugin.weights.sources import Input

# The papers of our heads, which hubs link.
PAPERS = {"SkipFusionHead": "arxiv:1411.4038", "UnpoolingHead": "arxiv:1511.00561"}
FEW = 20  # percent: a class of a lower IU is hardly found


@dataclass(frozen=True)
class Licences:
    """Licences that no file records, as their owners state them.

    Attributes:
        weights: of the published weights; for hubs an SPDX identifier such as 'apache-2.0'.
        data: of the pictures and labels that were trained on.
        initial: of the weights that the training started from.
    """

    weights: str = UNKNOWN
    data: str = UNKNOWN
    initial: str = UNKNOWN


def card(
    licences: Licences,
    file: Path,
    sha256: str,
    meta: dict[str, Any],
    halved: int,
    tensors: dict[str, Tensor],
    facts: Facts,
    results: list[Result],
) -> tuple[str, list[str]]:
    """README.md of a published folder, and what it says is unknown, in words.

    It begins with the YAML that hubs of models read (license, tags, model-index).

    Args:
        file, sha256: of the weights.
        meta: their meta data.
        halved: how many of the tensors are in float16.
        results: the scores.
    """
    initial = {
        name: licences.initial if licence == UNKNOWN else licence
        for name, licence in facts.initial.items()
    }
    gaps = {
        "the licence of these weights (--licence)": licences.weights == UNKNOWN,
        "the licence of the data (--data-licence)": licences.data == UNKNOWN,
        "the licence of the initial weights (--initial-licence)": UNKNOWN in initial.values(),
        "scores (fcn-plugin report RUN, or fcn-plugin test)": not results,
    }
    classes = meta.get("dataset_meta", {}).get("classes", ())
    scored = next((result for result in results if result.class_iu), None)
    by_class = scored.class_iu if scored else {}
    weak = {name: iu for name, iu in by_class.items() if iu is not None and iu < FEW}
    head = yaml.safe_dump(
        front_matter(file.stem.rpartition("-")[0], licences.weights, facts, results),
        sort_keys=False,
        allow_unicode=True,
    )
    text = _template().render(
        head=head,
        name=file.stem.rpartition("-")[0],
        file=file.name,
        config=CONFIG,
        size=file.stat().st_size,
        sha256=sha256,
        numbers=sum(tensor.numel() for tensor in tensors.values()),
        tensors=len(tensors),
        halved=halved,
        meta=meta,
        input=Input.stored(meta),
        classes=classes,
        facts=facts,
        results=results,
        scores=SCORES,
        scored=scored,
        by_class=by_class,
        weak=weak,
        few=FEW,
        licences=licences,
        initial=initial,
        unknown=UNKNOWN,
        version=__version__,
    )
    unknown = [what for what, missing in gaps.items() if missing]
    return printable(without_secrets(text), keep="\n"), unknown


def front_matter(name: str, licence: str, facts: Facts, results: list[Result]) -> dict[str, Any]:
    """The head of a card, by the keys that hubs of models know."""
    task = dict(type="image-segmentation", name="Semantic segmentation")
    index = [
        dict(
            task=task,
            dataset=dict(type=_slug(result.dataset), name=result.dataset),
            metrics=[
                dict(type=kind, name=words, value=round(result.scores[key] / 100, 4))
                for key, (words, kind) in SCORES.items()
                if key in result.scores
            ],
        )
        for result in results
    ]
    head = dict(
        license=licence.lower(),
        library_name="fcn_plugin",
        pipeline_tag="image-segmentation",
        tags=[
            "semantic-segmentation",
            "mmsegmentation",
            *facts.architecture,
            *(PAPERS[name] for name in facts.architecture if name in PAPERS),
        ],
        datasets=[_slug(facts.trained_on)],
        metrics=["mean_iou", "accuracy"],
    )
    return head | ({"model-index": [dict(name=name, results=index)]} if index else {})


def _slug(dataset: str) -> str:
    """A data set's name as hubs write it: the folder's last name, else the class's.

    >>> _slug("CamVidDataset in data/camvid, val")
    'camvid'
    """
    place = dataset.split(",")[0].rpartition(" in ")[2]
    letters = (letter if letter.isalnum() else "-" for letter in Path(place).name.lower())
    return "".join(letters).strip("-")


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("fcn_plugin.publish", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    environment.filters["in_brackets"] = in_brackets
    return environment.get_template("card.md")
