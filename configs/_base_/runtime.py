"""Logging, environment and hooks, for every config."""

custom_imports = dict(imports=["fcn_plugin"], allow_failed_imports=False)
default_scope = "mmseg"
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    # Seconds after which a silent process ends a run of several; far longer than the others wait
    # while one process writes a checkpoint.
    dist_cfg=dict(backend="nccl", timeout=600),
)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="AnyLayoutVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(by_epoch=False)
log_level = "INFO"
load_from = None
resume = False
custom_hooks = [
    dict(type="DataCheckHook"),
    dict(type="InputCheckHook"),
    dict(type="SameBuffersHook"),
    dict(type="ScheduleCheckHook"),
    dict(type="TrackingHook"),
    dict(type="ProgressHook"),
]
tta_model = dict(type="FCNTTAModel")
