"""Push a published folder to a hub of models, and pull one from there, with ``huggingface_hub``."""

from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.publish.folder import CARD, CONFIG, check_folder, weights_among
from fcn_plugin.system.download import digest_in

LEFT = ".cache/huggingface"  # folder of huggingface_hub where it has downloaded to
MADE_BY_HUBS = (".gitattributes",)


class Pushed(NamedTuple):
    """What a push did."""

    address: str  # of the repository
    deleted: list[str]  # the names of earlier weights there


def push(folder: Path, repo: str, private: bool = False, replace: bool = False) -> Pushed:
    """Upload a published folder's three files to ``repo``, which is created if it is not there.

    Args:
        repo: OWNER/NAME of a model; HF_ENDPOINT names another hub than huggingface.co.
        private: only to a repository that its owner alone can see; a new one becomes that.
        replace: delete other weights there, which would be left without config and card.

    Raises:
        UserError: it is no published folder, the weights have another hash than their name says,
            ``repo`` holds other files or weights or is not private, huggingface_hub is not
            installed, or the hub refuses.
    """
    api = _api()
    names = [check_folder(folder).name, CARD, CONFIG]
    with _explained(f"{folder} cannot be pushed to {repo}"):
        address = api.create_repo(repo, private=private, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise UserError(
                f"{repo}: is public already; give a new name, make it private on the hub, or leave "
                "--private out"
            )
        there = set(api.list_repo_files(repo)) - {*names, *MADE_BY_HUBS}
        earlier = sorted(name for name in there if digest_in(name) and "/" not in name)
        if others := sorted(there - {*earlier}):
            raise UserError(
                f"{repo}: holds other files, e.g. {others[0]}; give a new name, for these weights "
                "alone"
            )
        if earlier and not replace:
            raise UserError(
                f"{repo}: holds other weights, {', '.join(earlier)}; give a new name, or delete "
                "them with --replace"
            )
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=[*map(escape, names)],
            delete_patterns=[*map(escape, earlier)] or None,
            commit_message=f"Publish {names[0]}",
        )
    return Pushed(str(address), earlier)


def pull(repo: str, folder: Path) -> Path:
    """Download a published folder; returns its weights, whose hash is compared.

    Args:
        folder: is created; or empty, or left by a pull of these files that was interrupted.

    Raises:
        UserError: there are other files in ``folder``, ``repo`` holds no published network, what
            arrived has another hash, huggingface_hub is not installed, or the hub refuses.
    """
    api = _api()
    with _explained(f"{repo} cannot be pulled"):
        names = [weights_among(repo, api.list_repo_files(repo)), CARD, CONFIG]
        if not _is_free(folder, names):
            raise UserError(f"{folder}: is in use; give a new folder, or empty it")
        api.snapshot_download(repo, local_dir=folder, allow_patterns=[*map(escape, names)])
    return check_folder(folder)


def _is_free(folder: Path, names: list[str]) -> bool:
    """Whether ``folder`` has nothing but what a pull of files of these names leaves."""
    if not folder.is_dir():
        return not folder.exists()
    there = {path.name for path in folder.iterdir()}
    return not there or ((folder / LEFT).is_dir() and there <= {Path(LEFT).parts[0], *names})


def _api() -> Any:
    try:
        return import_module("huggingface_hub").HfApi()
    except ImportError as error:
        raise UserError(
            "push and pull need the package huggingface_hub; run pip install 'fcn-plugin[hub]'"
        ) from error


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    # Its errors, and those of the HTTP library below it, have no common class.
    except Exception as error:
        raise UserError(
            f"{what} ({quoted(error)}); check the name and the connection, and whether you are "
            "logged in (hf auth login)"
        ) from error
