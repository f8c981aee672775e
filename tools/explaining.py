"""One-line messages for errors that the user can fix."""

import errno
import re
import traceback

KILLED_WORKER = (
    "a worker of the data loader was killed, as systems do when memory runs out; make room, or set "
    "the loader's num_workers lower"
)
# Pattern in another library's message -> our message, where {} is the match. The first one counts.
REMEDIES = {
    # gloo
    "Timed out waiting": "another process did not answer for env_cfg.dist_cfg.timeout seconds; see "
    "its last messages, or give it more time",
    r"Connection (closed|reset) by peer|Broken pipe": "another process has ended; see its last "
    "messages",
    "connectFullMesh failed": "the machines do not reach each other; give MASTER_ADDR as a number, "
    "such as 10.0.0.1, or name the network card between them: GLOO_SOCKET_IFNAME=eth0",
    "Unable to find address for: .*": "GLOO_SOCKET_IFNAME: {}; name a network card of this "
    "machine, as ip addr lists them",
    # torch.distributed
    "EADDRINUSE": "another run uses this port of the first machine; set another one, the same on "
    "all machines: MASTER_PORT=29501",
    # torch on a GPU
    "CUDA out of memory": "a GPU has too little memory; to train, take --batch auto, --amp or a "
    "smaller train_dataloader.batch_size; to test, set model.test_cfg.mode='slide'",
    # torch's BatchNorm
    "Expected more than 1 value per channel when training": "BatchNorm has a single pixel of a "
    "single image to normalise; set train_dataloader.batch_size=2, take larger crops, or GroupNorm "
    "(norm_cfg)",
    # mmengine's checkpoint hook
    "Cannot infer the rule for key.*": "default_hooks.checkpoint.save_best: {}; set rule='greater' "
    "or 'less' beside it",
    # torch's data loader
    "DataLoader timed out": "the workers of a data loader gave no batch within its timeout; see "
    "their last messages, or give them more seconds: train_dataloader.timeout=1200, likewise for "
    "val and test",
    "killed by signal: Bus error": "a worker of the data loader found no room in shared memory; "
    "give a container more (docker run --shm-size=8g), or set the loader's num_workers lower",
    # With "(pid", since an error raised in a worker names a "DataLoader worker process", too.
    r"DataLoader worker \(pid": KILLED_WORKER,
    "Too many open files|received 0 items of ancdata": "more files are open than ulimit -n allows; "
    "raise it, or set num_workers=0",
    # mmengine's schedules
    "end should be larger than begin.*": "param_scheduler: {}; a shorter run needs a shorter "
    "warm-up, too: param_scheduler.0.end and param_scheduler.1.begin",
    # OneDL's mmseg; OpenMMLab's takes any number.
    "`mean` should have 1 or 3 values.*": "model.data_preprocessor: {}; for other bands set its "
    "type='BandsPreProcessor'",
    # mmengine's config; its message says what to do
    "(?s).*cannot inherit from base.*": "{}",
}


def explain(error: Exception) -> str | None:
    """One line for an error that the user can fix, None for any other error.

    UserError is recognised by name, since importing fcn_plugin may be what failed.
    """
    text = str(error).strip()
    if any(kind.__name__ == "UserError" for kind in type(error).__mro__):
        return text
    if isinstance(error, ImportError) and error.name == "fcn_plugin":
        return "fcn_plugin is not installed; run pip install -c constraints.txt -e '.[openmmlab]'"
    if isinstance(error, ImportError) and text.startswith("fcn_plugin"):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "what was to be written"
        return f"{where}: the disk is full; make room and run it again"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    raised_in = (
        traceback.extract_tb(error.__traceback__)[-1].filename if error.__traceback__ else ""
    )
    if isinstance(error, OSError | EOFError) and "multiprocessing" in raised_in:
        return KILLED_WORKER  # while it handed over a batch
    if isinstance(error, FileNotFoundError):
        return text
    if unknown := re.search(r"([\w.]+) is not in the (\w+)::([\w ]+) registry", text):
        return unknown_type(*unknown.groups())
    # The cause knows more: of a killed worker it names the signal, which the error does not.
    for message in (str(error.__cause__ or ""), text):
        for words, remedy in REMEDIES.items():
            if match := re.search(words, message):
                return remedy.format(match[0])
    if "unexpected keyword argument" in text and raised_in.endswith("build_functions.py"):
        return f"{text}; check the spelling of this setting in the config"
    return None


def unknown_type(name: str, scope: str, registry: str) -> str:
    """One line for a ``type`` in a config that no imported package has registered."""
    from mmengine import registry as roots

    from fcn_plugin.errors import did_you_mean

    kind = re.split("[ _]", registry)
    types: set[str] = set()
    for root in vars(roots).values():
        if isinstance(root, roots.Registry) and re.split("[ _]", root.name) == kind:
            for part in (root, *root.children.values()):
                types |= set(part.module_dict)
    hint = did_you_mean(name, types, "is the package that has it imported?")
    return f"type={name!r} in the config is not a {registry} known to {scope}; {hint}"
