"""FCN-32s on NYUDv2's HHA (horizontal disparity, height, angle with gravity), as published.

    fcn-plugin prepare_data nyud
    fcn-plugin train fcn32s_vgg16_nyud-hha-heavy

Published: 24.2 mean IU on test, 57.1 pixel acc., 35.2 mean acc., 40.4 f.w. IU (CVPR, table 4);
not yet run here.
"""

_base_ = "fcn32s_vgg16_nyud-color-heavy.py"
# The three numbers of a pixel in the order of the files, which is RGB's, with their own mean.
model = dict(data_preprocessor=dict(mean=[132.431, 94.076, 118.477], bgr_to_rgb=True))
of_hha = dict(dataset=dict(data_prefix=dict(img_path="data/hha")))
train_dataloader = of_hha
val_dataloader = of_hha
test_dataloader = of_hha
