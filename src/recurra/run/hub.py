"""Models on the Hugging Face Hub: what a run directory needs to predict, uploaded with a card, and fetched again.

huggingface_hub's ModelHubMixin stores one module's weights with a config.json of its constructor's arguments. A run is
more than a module (the tokenizer, the configuration) and already has its own files, so they are uploaded as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..config.load import load_config
from ..errors import RunError
from ..files import scratch_folder
from .directory import CONFIG, WEIGHTS
from .saving import Savable, names_repository, save_model, without_places
from .shipped import shipped_model

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fetch", "model_card", "push"]


def push(
    repo_id: str,
    config: Any,
    files: Mapping[str, Savable],
    model: nn.Module,
    run: Path | None = None,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload recurra model",
) -> str:
    """Upload what predicting needs, and a card that is made for it; of the texts only the file names are told.

    Args:
        repo_id: USER/NAME; made if it does not exist.
        config, files, model, run: as `recurra.run.saving.save_model` takes them.
        private: of a repository that is made; None: the account's default.
        token: access token; None: the one that `hf auth login` stored.
        revision: branch; None: main.
        commit_message: first line of the commit.

    Returns:
        The commit's address.

    Raises:
        RunError: if the cell is the user's own, or if the Hub refuses or cannot be reached.
    """
    if _own_cell(config):
        raise RunError(
            f"{config.model.cell}: a model with a cell of your own cannot be loaded from the Hub; share its directory "
            "together with the cell's file instead."
        )
    from huggingface_hub import HfApi

    with scratch_folder() as folder:
        directory = save_model(folder, without_places(config), files, model, run)
        (directory / "README.md").write_text(model_card(repo_id, config), encoding="utf-8")
        try:
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=directory,
                revision=revision,
                commit_message=commit_message,
                allow_patterns=[CONFIG, WEIGHTS, *files, "README.md"],
            )
        except Exception as error:
            # The Hub's client lets errors of its own, of httpx or requests and of the operating system through.
            raise RunError(f"{repo_id}: cannot be uploaded to the Hub ({_first_line(error)}).") from error
    return str(getattr(commit, "commit_url", commit))


def fetch(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The directory of a model: itself, one that comes with the package, or downloaded from the Hub into its cache.

    A name such as runs/books, where the folder runs exists here, means a directory and is never looked for on the Hub.

    Args:
        name: a directory, the name of a model that comes with the package, or USER/NAME of a repository on the Hub.
        revision: branch, tag or commit on the Hub.
        token: access token for a private repository.
        cache_dir: where downloads are kept; None: the Hub client's own place.
        local_files_only: use what was downloaded before and no network.

    Raises:
        RunError: if it is neither, cannot be downloaded, or asks for a cell from a file.
    """
    if not names_repository(name):
        return shipped_model(name) or Path(name)
    from huggingface_hub import HfApi

    try:
        directory = Path(
            HfApi(token=token).snapshot_download(
                str(name),
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=[CONFIG, WEIGHTS, *sorted(_known_files())],
            )
        )
    except Exception as error:
        raise RunError(
            f"{name}: is neither a directory here nor a model that the Hub gives out ({_first_line(error)})."
        ) from error
    if not (directory / CONFIG).is_file():
        raise _foreign(name, CONFIG)
    config = load_config(directory / CONFIG)
    sets = registry.find(config.task).files
    # The first set of files is the usual one, so its files are those that are missed.
    complete = [files for files in sets if all((directory / file).is_file() for file in files)]
    needed = [*(complete or sets)[0], WEIGHTS]
    missing = [file for file in needed if not (directory / file).is_file()]
    if missing:
        raise _foreign(name, missing[0])
    # A downloaded configuration must not name code to run, not even code that lies on this machine.
    if _own_cell(config):
        raise RunError(
            f"{name}: its cell comes from a file of its author's, which is not run; ask for the directory instead."
        )
    return directory


def model_card(repo_id: str, config: Any) -> str:
    """The README.md of a model on the Hub: what it is and how it is used, with the metadata that the Hub reads."""
    system = registry.find(config.task)
    said = registry.resolve(system.describe)(config)["model"]
    return f"""---
library_name: recurra
pipeline_tag: {system.pipeline}
tags:
- recurra
- recurrent-neural-network
- {system.name}
- {config.model.cell.replace("_", "-")}
---

# {repo_id.rpartition("/")[2]}

{said} `config.yaml` holds its complete configuration.

```python
from recurra import load

model = load("{repo_id}")
{system.example}
```
"""


def _known_files() -> set[str]:
    """The files that models of any system need; which system it is shows only when they are here."""
    return {file for system in registry.systems() for files in system.files for file in files}


def _foreign(name: str | Path, missing: str) -> RunError:
    return RunError(f"{name}: this repository on the Hub has no {missing}, so it is not a recurra model.")


def _own_cell(config: Any) -> bool:
    return ":" in config.model.cell


def _first_line(error: Exception) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
