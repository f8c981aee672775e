"""Skip fusion on HRNet-W18, which has parallel branches of 4 resolutions, on VOC 2012 + SBD.

    fcn-plugin train fcn8s_hrnet-w18_voc

Not run here yet.
"""

_base_ = "fcn8s_vgg16_voc.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="HRNet",
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block="BOTTLENECK",
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block="BASIC",
                num_blocks=(4, 4),
                num_channels=(18, 36),
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block="BASIC",
                num_blocks=(4, 4, 4),
                num_channels=(18, 36, 72),
            ),
            stage4=dict(
                num_modules=3,
                num_branches=4,
                block="BASIC",
                num_blocks=(4, 4, 4, 4),
                num_channels=(18, 36, 72, 144),
            ),
        ),
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://msra/hrnetv2_w18"),
    ),
    # Strides 8, 16 and 32; HRNet has already fused the branch at stride 4 into them.
    decode_head=dict(in_channels=(36, 72, 144), in_index=(1, 2, 3)),
)
# The last fusion into stride 4 is unused; several processes would wait for its gradients.
find_unused_parameters = True
optim_wrapper = dict(optimizer=dict(lr=1e-2))
