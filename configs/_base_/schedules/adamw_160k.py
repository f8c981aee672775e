"""AdamW with linear decay for 160,000 iterations; batch 16: how transformers are trained.

As mmseg trains Swin, SegFormer and SegNeXt on ADE20K.
"""

_base_ = "sgd_40k.py"
train_cfg = dict(max_iters=160_000, val_interval=16_000)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    # No weight decay of normalisation and embeddings. Keys without a parameter have no effect.
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys=dict(
            norm=dict(decay_mult=0.0),
            pos_embed=dict(decay_mult=0.0),
            pos_block=dict(decay_mult=0.0),
            absolute_pos_embed=dict(decay_mult=0.0),
            relative_position_bias_table=dict(decay_mult=0.0),
            cls_token=dict(decay_mult=0.0),
        ),
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=1_500, by_epoch=False),
    dict(type="PolyLR", power=1.0, eta_min=0.0, begin=1_500, end=160_000, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=16_000))
