"""FCN-GoogLeNet on SBD and VOC 2011 by the paper's recipe; the network was never released.

    fcn-plugin train fcn32s_googlenet_voc2011

Published: 42.5 mean IU, trained on the 1,112 images of VOC 2011 for 175 epochs or more (CVPR table
1); not yet run here. As many updates as for FCN-AlexNet, 235 epochs of SBD.
"""

_base_ = "fcn32s_alexnet_voc2011.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="ConvolutionalizedGoogLeNet",
        variant="paper",
        padding="reference",
        out_indices=(4,),  # inception_5b
        init_cfg=dict(type="Pretrained", checkpoint="caffe://googlenet"),
    ),
    decode_head=dict(in_channels=(1024,)),
)
optim_wrapper = dict(
    optimizer=dict(lr=5e-5),
    paramwise_cfg=dict(_delete_=True, bias_lr_mult=2.0, bias_decay_mult=0.0),
)
