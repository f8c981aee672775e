"""One line for an error that the user can put right."""

import errno
import re
import traceback


def explain(error: Exception) -> str | None:
    """One line for an error that the user can put right, None for any other.

    By name, not by class: the package may be what failed to import.
    """
    text = str(error).strip()
    names = [kind.__name__ for kind in type(error).__mro__]
    if "UserError" in names:
        return text
    if isinstance(error, ImportError) and error.name == "fcn_plugin":
        return "fcn_plugin is not installed; run pip install -c constraints.txt -e '.[lite]'"
    if isinstance(error, ImportError) and text.startswith("fcn_plugin"):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "what was to be written"
        return f"{where}: the disk is full; make room and run it again"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return text
    if unknown := re.search(r"([\w.]+) is not in the (\w+)::([\w ]+) registry", text):
        return unknown_type(*unknown.groups())
    if isinstance(error, RuntimeError) and "Timed out waiting" in text:  # gloo's words
        return (
            "another process did not answer for env_cfg.dist_cfg.timeout seconds; see what it said "
            "last, or give it more time"
        )
    gone = r"Connection (closed|reset) by peer|Broken pipe"
    if isinstance(error, RuntimeError) and re.search(gone, text):
        return "another process has ended; see what it said last"
    if "Expected more than 1 value per channel when training" in text:  # torch's BatchNorm
        return (
            "BatchNorm has a single pixel of a single image to normalise; set "
            "train_dataloader.batch_size=2, take larger crops, or GroupNorm (norm_cfg)"
        )
    if "Cannot infer the rule for key" in text:  # mmengine's checkpoint hook
        return f"default_hooks.checkpoint.save_best: {text}; set rule='greater' or 'less' beside it"
    if isinstance(error, RuntimeError) and "DataLoader timed out" in text:
        return (
            "the workers of a data loader gave no batch for its timeout; see what they said last, "
            "or give them more seconds: train_dataloader.timeout=1200, and so for val and test"
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return (
            "a worker of the data loader was killed, as systems do when memory runs out; make "
            "room, or set the loader's num_workers lower"
        )
    if "Too many open files" in text or "received 0 items of ancdata" in text:
        return "more files are open than ulimit -n allows; raise it, or set num_workers=0"
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if "unexpected keyword argument" in text and raised_in.endswith("build_functions.py"):
        return f"{text}; check the spelling of this setting in the config"
    if "cannot inherit from base" in text:  # mmengine's, which names the remedy
        return text
    return None


def unknown_type(name: str, scope: str, registry: str) -> str:
    """One line for a ``type`` of a config that no package has registered."""
    from mmengine import registry as roots

    from fcn_plugin.errors import did_you_mean

    known: set[str] = set()
    for root in vars(roots).values():
        if isinstance(root, roots.Registry) and root.name.replace("_", " ") == registry.replace(
            "_", " "
        ):
            for part in (root, *root.children.values()):
                known |= set(part.module_dict)
    hint = did_you_mean(name, known, "is the package that has it imported?")
    return f"type={name!r} in the config is not a {registry} known to {scope}; {hint}"
