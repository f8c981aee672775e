"""FCN-8s at once on CamVid by the paper's recipe: one crop a step, summed loss, fixed rate.

    fcn-plugin train fcn8s_vgg16-convs_camvid-heavy

The published rate of 1e-10 is for 500 x 375 pixels; on a crop of 288 x 384 it is 1.7e-10.
"""

_base_ = "fcn8s_vgg16-convs_camvid.py"
model = dict(
    decode_head=dict(
        scale=(0.0001, 0.01, 1.0),  # as the published FCN-8s at once has
        loss_decode=dict(_delete_=True, type="CrossEntropyLoss", reduction="sum"),
    ),
)
train_dataloader = dict(batch_size=1)
train_cfg = dict(max_iters=7200)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=1.7e-10, momentum=0.99, weight_decay=5e-4),
    paramwise_cfg=dict(_delete_=True, bias_lr_mult=2.0, bias_decay_mult=0.0),
)
param_scheduler = None
