"""FCN-32s on CamVid: as fcn8s_vgg16-convs_camvid.py without any skip.

The first of three stages:

    fcn-plugin train_stages fcn{32s,16s,8s}_vgg16-convs_camvid
"""

_base_ = "fcn8s_vgg16-convs_camvid.py"
model = dict(
    backbone=dict(out_indices=(5,)),
    decode_head=dict(in_channels=(512,), in_index=(0,)),
)
