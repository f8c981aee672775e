"""SIFT Flow's label files and its published split."""

from pathlib import Path

from fcn_plugin.data.catalogue import SIFTFLOW_IMAGES
from fcn_plugin.data.siftflow import GEOMETRIC, SEMANTIC

# Folder of the archive -> subfolder of our labels, and the largest number of a class.
KINDS = {
    "SemanticLabels": ("semantic", len(SEMANTIC)),
    "GeoLabels": ("geometric", len(GEOMETRIC)),
}
# Without annotations, and in neither list (Caffe data/sift-flow/classes.txt).
UNANNOTATED = {"highway_bost181", "street_urb506"}
# Caffe data/sift-flow/test.txt; trainval.txt has all other images.
TEST_NAMES = """
coast_natu975 insidecity_art947 insidecity_urb781 highway_bost374 coast_n203085 insidecity_a223049
mountain_nat116 street_art861 mountain_land188 street_par177 opencountry_natu524 forest_natu29
highway_gre37 street_bost77 insidecity_art1125 street_urb521 highway_bost178 street_art760
street_urb885 insidecity_art829 coast_natu804 mountain_sharp44 coast_natu649 opencountry_land691
insidecity_hous35 tallbuilding_art1719 mountain_n736026 mountain_moun41 insidecity_urban992
opencountry_land295 tallbuilding_art527 highway_art238 forest_for114 coast_land296 tallbuilding_sky7
mountain_n44009 tallbuilding_art1316 forest_nat717 highway_bost164 street_par29 forest_natc52
tallbuilding_art1004 coast_sun14 opencountry_land206 opencountry_land364 mountain_n219015
highway_a836030 forest_nat324 opencountry_land493 insidecity_art1598 street_street27
insidecity_a48009 coast_cdmc889 street_gre295 tallbuilding_a538076 street_boston378 highway_urb759
street_par151 tallbuilding_urban1003 tallbuilding_urban16 highway_bost151 opencountry_nat965
highway_gre661 forest_for42 opencountry_n18002 insidecity_art646 highway_gre55 coast_n295051
forest_bost103 highway_n480036 mountain_land4 forest_nat130 coast_nat643 insidecity_urb250
street_gre11 street_boston271 opencountry_n490003 mountain_nat762 street_par86 coast_arnat59
mountain_land787 highway_gre472 opencountry_tell67 mountain_sharp66 opencountry_land534
insidecity_gre290 highway_bost307 opencountry_n213059 forest_nat220 forest_cdmc348
tallbuilding_art900 insidecity_art569 street_urb200 coast_natu468 coast_n672069 insidecity_hous109
forest_land862 opencountry_natu65 tallbuilding_a805096 opencountry_n291058 forest_natu439
coast_nat799 tallbuilding_urban991 tallbuilding_sky17 opencountry_land638 opencountry_natu563
tallbuilding_urb733 forest_cdmc451 mountain_n371066 mountain_n213081 mountain_nat57
tallbuilding_a463068 forest_natu848 tallbuilding_art306 insidecity_boston92 insidecity_urb584
tallbuilding_urban1126 coast_n286045 street_gre179 coast_nat1091 opencountry_nat615 coast_nat901
forest_cdmc291 mountain_natu568 mountain_n18070 street_bost136 tallbuilding_art425 coast_bea3
tallbuilding_art1616 insidecity_art690 highway_gre492 highway_bost320 forest_nat400 highway_par23
tallbuilding_a212033 forest_natu994 tallbuilding_archi296 highway_gre413 tallbuilding_a279033
insidecity_art1277 coast_cdmc948 forest_for15 street_par68 mountain_natu786 opencountry_open61
opencountry_nat423 mountain_land143 tallbuilding_a487066 tallbuilding_art1751 insidecity_hous79
street_par118 highway_bost293 mountain_n213021 opencountry_nat802 coast_n384099 opencountry_natu998
mountain_n344042 coast_nat1265 forest_text44 forest_for84 insidecity_a807066 opencountry_nat1117
coast_sun42 insidecity_par180 opencountry_land923 highway_art580 street_art1328 coast_cdmc838
opencountry_land660 opencountry_cdmc354 coast_natu825 opencountry_natu38 mountain_nat30
coast_n199066 forest_text124 forest_land222 tallbuilding_city56 tallbuilding_city22
opencountry_fie36 mountain_ski24 coast_cdmc997 insidecity_boston232 opencountry_land575
opencountry_land797 insidecity_urb362 forest_nat1033 mountain_nat891 street_hexp3
tallbuilding_art1474 tallbuilding_urban73 opencountry_natu852 mountain_nat1008 coast_nat294
mountain_sharp20 opencountry_fie14 mountain_land275 forest_land760 coast_land374 mountain_nat426
highway_gre141
"""
TEST = TEST_NAMES.split()


def lists(folder: Path) -> dict[str, list[str]]:
    """The published lists, of the images in the data set's folder."""
    images = {path.stem for path in (folder / SIFTFLOW_IMAGES).glob("*.jpg")}
    trainval = sorted(images.difference(TEST, UNANNOTATED))
    return {"trainval": trainval, "test": [name for name in TEST if name in images]}


def label_sources(folder: Path) -> list[Path]:
    """The label files of both kinds."""
    return [path for kind in KINDS for path in sorted((folder / kind).glob("*/*.mat"))]


def label_name(source: Path) -> str:
    """The path of our label without suffix, e.g. "semantic/coast_natu975"."""
    return f"{KINDS[source.parts[-3]][0]}/{source.stem}"
