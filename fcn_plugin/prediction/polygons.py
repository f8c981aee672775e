"""Write labels as polygons, one for each connected area of a class, as GeoJSON."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fcn_plugin.data.bands import rasterio_for
from fcn_plugin.prediction.classes import Classes
from fcn_plugin.system.files import replacing

WGS84 = 4326  # EPSG's number of GeoJSON's own coordinates


def write_polygons(labels: np.ndarray | Path, classes: Classes, target: Path) -> None:
    """Write the polygons of labels as a GeoJSON file, with properties ``class`` and ``value``.

    The polygons follow the pixels' edges, with holes, and together cover all pixels that have a
    class. Of a GeoTIFF the coordinates are those of its own CRS, in which these edges are straight
    lines. Unless it is RFC 7946's WGS 84, a member ``crs`` names it, as in GeoJSON's version of
    2008, which GDAL and QGIS read and write. Without a CRS they are the transform's; of an array
    they are pixels, to the right and down.

    Args:
        labels: H x W, uint8 or uint16, in the data set's own numbers; or a GeoTIFF of these.
        target: the file to write, whole or not at all.

    Raises:
        UserError: rasterio is not installed.
    """
    rasterio = rasterio_for("polygons")
    with ExitStack() as stack:
        source, place, crs = labels, rasterio.Affine.identity(), None
        if isinstance(labels, Path):
            file = stack.enter_context(rasterio.open(labels))
            source, place, crs = rasterio.band(file, 1), file.transform, file.crs
        head = {"type": "FeatureCollection"} | _crs(crs)
        part = stack.enter_context(replacing(target))
        with part.open("w", encoding="utf-8") as lines:
            # Feature by feature, because a large picture has many.
            lines.write(f'{json.dumps(head)[:-1]}, "features": [')
            for number, feature in enumerate(_features(source, place, classes.by_number)):
                lines.write(",\n" * (number > 0) + json.dumps(feature, ensure_ascii=False))
            lines.write("]}\n")


def _features(source: Any, place: Any, names: dict[int, str]) -> Iterator[dict]:
    shapes = import_module("rasterio.features").shapes
    for geometry, value in shapes(source, transform=place):
        if (number := int(value)) in names:  # else it is no data
            properties = {"class": names[number], "value": number}
            yield {"type": "Feature", "properties": properties, "geometry": geometry}


def _crs(crs: Any) -> dict[str, Any]:
    """The member ``crs``; nothing of WGS 84."""
    code = crs and crs.to_epsg()
    if crs is None or code == WGS84:
        return {}
    name = f"urn:ogc:def:crs:EPSG::{code}" if code else crs.to_wkt()
    return {"crs": {"type": "name", "properties": {"name": name}}}
