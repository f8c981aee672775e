"""PASCAL-Context's classes in the order of the published networks, and their published numbers.

Label files have mmseg's values: 0 for background, 1-59 for the classes in alphabetical order.
"""

# mmseg's names in the order of Caffe's data/pascal-context/classes-59.txt, which calls table,
# cloth and bedclothes diningtable, clothes and bedcloth. mmseg's own order is alphabetical.
NAMES = """
background aeroplane bicycle bird boat bottle bus car cat chair cow table dog horse motorbike
person pottedplant sheep sofa train tvmonitor bag bed bench book building cabinet ceiling cloth
computer cup door fence floor flower food grass ground keyboard light mountain mouse curtain
platform sign plate road rock shelves sidewalk sky snow bedclothes track tree truck wall water
window wood
"""
PUBLISHED_CLASSES = tuple(NAMES.split())

# Class -> its number in labels.txt, the data set's list of all 459 classes (Caffe
# data/pascal-context/classes-400.txt), in alphabetical order.
LISTED = dict(
    aeroplane=2,
    bag=9,
    bed=18,
    bedclothes=19,
    bench=22,
    bicycle=23,
    bird=25,
    boat=31,
    book=33,
    bottle=34,
    building=44,
    bus=45,
    cabinet=46,
    car=59,
    cat=65,
    ceiling=68,
    chair=72,
    cloth=80,
    computer=85,
    cow=98,
    cup=104,
    curtain=105,
    dog=113,
    door=115,
    fence=144,
    floor=158,
    flower=159,
    food=162,
    grass=187,
    ground=189,
    horse=207,
    keyboard=220,
    light=232,
    motorbike=258,
    mountain=259,
    mouse=260,
    person=284,
    plate=295,
    platform=296,
    pottedplant=308,
    road=324,
    rock=326,
    sheep=347,
    shelves=349,
    sidewalk=354,
    sign=355,
    sky=360,
    snow=366,
    sofa=368,
    table=397,
    track=415,
    train=416,
    tree=420,
    truck=424,
    tvmonitor=427,
    wall=440,
    water=445,
    window=454,
    wood=458,
)
