"""PASCAL-Context in the class order of the published networks."""

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
