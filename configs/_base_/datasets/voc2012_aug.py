"""PASCAL VOC 2012 with SBD's labels (trainaug): 10,582 training images.

They are the 1,464 of VOC with VOC's own labels and 9,118 of SBD with SBD's.
"""

_base_ = "voc2012.py"
aug = dict(
    _base_.train,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassAug"),
    ann_file="ImageSets/Segmentation/aug.txt",
)
train_dataloader = dict(
    dataset=dict(_delete_=True, type="ConcatDataset", datasets=[_base_.train, aug])
)
# Only fcn-plugin prepare_data puts the labels of all 10,582 images into one folder.
splits = dict(
    trainaug=dict(
        ann_file="ImageSets/Segmentation/trainaug.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassAug"),
    )
)
