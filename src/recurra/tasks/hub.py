"""Models on the Hugging Face Hub: what a run directory needs to predict, uploaded with a card, and fetched again.

huggingface_hub's ModelHubMixin stores one module's weights with a config.json of its constructor's arguments. A run is
more than a module (the tokenizer, the configuration) and already has its own files, so they are uploaded as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..config import Config, load_config
from ..config_translation import TranslationConfig
from ..data.tokenizer import Tokenizer
from ..errors import RunError
from .saved_model import JOINT_TOKENIZER, TWO_TOKENIZERS, names_repository, save_model, without_places

__all__ = ["FILES", "fetch", "model_card", "push"]

TOKENIZER_FILES = (JOINT_TOKENIZER, *TWO_TOKENIZERS)
FILES = ("config.yaml", *TOKENIZER_FILES, "model.safetensors")
"""What predicting needs, with a joint tokenizer or two; nothing else but the card is uploaded or fetched."""


def push(
    repo_id: str,
    config: Config | TranslationConfig,
    tokenizers: Mapping[str, Tokenizer],
    model: nn.Module,
    run: Path | None = None,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload recurra model",
) -> str:
    """Upload `FILES` and a card, README.md, that is made for them; of the texts only the file names are told.

    Args:
        repo_id: USER/NAME; made if it does not exist.
        config, tokenizers, model, run: as `recurra.tasks.saved_model.save_model` takes them.
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

    with tempfile.TemporaryDirectory(prefix="recurra-") as folder:
        directory = save_model(folder, without_places(config), tokenizers, model, run)
        (directory / "README.md").write_text(model_card(repo_id, config), encoding="utf-8")
        try:
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=directory,
                revision=revision,
                commit_message=commit_message,
                allow_patterns=[*FILES, "README.md"],
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
    """The directory of a model: itself if it is one, or else downloaded from the Hub into its cache.

    A name such as runs/books, where the folder runs exists here, means a directory and is never looked for on the Hub.

    Args:
        name: a directory, or USER/NAME of a repository on the Hub.
        revision: branch, tag or commit on the Hub.
        token: access token for a private repository.
        cache_dir: where downloads are kept; None: the Hub client's own place.
        local_files_only: use what was downloaded before and no network.

    Raises:
        RunError: if it is neither, cannot be downloaded, or asks for a cell from a file.
    """
    if not names_repository(name):
        return Path(name)
    from huggingface_hub import HfApi

    try:
        directory = Path(
            HfApi(token=token).snapshot_download(
                str(name),
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=list(FILES),
            )
        )
    except Exception as error:
        raise RunError(
            f"{name}: is neither a directory here nor a model that the Hub gives out ({_first_line(error)})."
        ) from error
    parted = all((directory / file).is_file() for file in TWO_TOKENIZERS)
    needed = [file for file in FILES if file not in (TWO_TOKENIZERS if not parted else (JOINT_TOKENIZER,))]
    missing = [file for file in needed if not (directory / file).is_file()]
    if missing:
        raise RunError(f"{name}: this repository on the Hub has no {missing[0]}, so it is not a recurra model.")
    # A downloaded configuration must not name code to run, not even code that lies on this machine.
    if _own_cell(load_config(directory / "config.yaml")):
        raise RunError(
            f"{name}: its cell comes from a file of its author's, which is not run; ask for the directory instead."
        )
    return directory


def model_card(repo_id: str, config: Config | TranslationConfig) -> str:
    """The README.md of a model on the Hub: what it is and how it is used, with the metadata that the Hub reads."""
    if isinstance(config, TranslationConfig):
        kind, pipeline, said, used = "translation", "translation", _translator(config), _TRANSLATING
    else:
        kind, pipeline, said, used = "language-model", "text-generation", _language_model(config), _ASKING
    return f"""---
library_name: recurra
pipeline_tag: {pipeline}
tags:
- recurra
- recurrent-neural-network
- {kind}
- {config.model.cell.replace("_", "-")}
---

# {repo_id.rpartition("/")[2]}

{said} over {config.tokenizer.kind} tokens. `config.yaml` holds its
complete configuration.

```python
from recurra import load

model = load("{repo_id}")
{used}
```
"""


_ASKING = """model.next("the apple and")
model.score(["the apple and pear salad", "the apple and pair salad"])
print(model.generate("the apple and", length=100)[0])"""

_TRANSLATING = """print(model.translate(["A sentence of the source language."])[0].best)"""


def _language_model(config: Config) -> str:
    model = config.model
    sizes = ", ".join(str(size) for size in model.layer_sizes)
    layers = f"{model.num_layers} layer(s) of `{model.cell}` with {sizes} units"
    return f"A recurrent language model trained with recurra: {layers},"


def _translator(config: TranslationConfig) -> str:
    model = config.model
    read = "a fixed context" if model.attention == "none" else f"{model.attention} attention"
    layers = (
        f"{model.encoder_layers} + {model.decoder_layers} layer(s) of `{model.cell}` with {model.hidden_size} units"
    )
    return f"A recurrent translation system trained with recurra: {layers}, {read},"


def _own_cell(config: Config | TranslationConfig) -> bool:
    return ":" in config.model.cell


def _first_line(error: Exception) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
