"""Models to and from the Hub, over a fake that keeps repositories in a folder."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

import recurra
from recurra.config.load import load_config, save_config
from recurra.config.sections import TokenizerConfig
from recurra.data.sentences import SentenceTokenizer
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ConfigError, RunError
from recurra.run import hub
from recurra.systems.language_model.config import LanguageModelConfig, ModelConfig
from recurra.systems.language_model.network import LanguageModel
from recurra.systems.language_model.predict import LanguageModelPredictor
from recurra.systems.translation.config import TranslationConfig
from recurra.systems.translation.network import EncoderDecoder
from recurra.systems.translation.predict import Translator

NEEDED = ("config.yaml", "tokenizer.json", "model.safetensors")


class FolderHub:
    """Answers as huggingface_hub.HfApi does, with repositories as folders under `root`."""

    root: Path
    calls: list[tuple[str, dict[str, Any]]]

    def __init__(self, token: str | bool | None = None) -> None:
        self.calls.append(("HfApi", {"token": token}))

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, "private": private}))
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: str | Path,
        revision: str | None = None,
        commit_message: str | None = None,
        allow_patterns: list[str] | None = None,
    ) -> str:
        self.calls.append(("upload_folder", {"revision": revision, "commit_message": commit_message}))
        for path in Path(folder_path).rglob("*"):
            if path.is_file() and any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns or ["*"]):
                shutil.copy(path, self.root / repo_id / path.name)
        return f"https://hub.example/{repo_id}/commit/1"

    def snapshot_download(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        allow_patterns: list[str] | None = None,
    ) -> str:
        self.calls.append(("snapshot_download", {"repo_id": repo_id, "revision": revision}))
        if not (self.root / repo_id).is_dir():
            raise FileNotFoundError(f"404 Client Error: no repository {repo_id}\nRequest ID: 1")
        copy = self.root / "cache" / repo_id
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for path in (self.root / repo_id).iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns or ["*"]):
                shutil.copy(path, copy / path.name)
        return str(copy)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FolderHub]:
    monkeypatch.setattr(FolderHub, "root", tmp_path / "hub", raising=False)
    monkeypatch.setattr(FolderHub, "calls", [], raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", FolderHub)
    monkeypatch.chdir(tmp_path)
    return FolderHub


@pytest.fixture(scope="module")
def predictor() -> LanguageModelPredictor:
    config = LanguageModelConfig(
        tokenizer=TokenizerConfig(kind="character"), model=ModelConfig(hidden_size=8, num_layers=1)
    )
    tokenizer = Tokenizer.train(["the apple and pear salad\n"], config.tokenizer)
    torch.manual_seed(0)
    return LanguageModelPredictor(LanguageModel(tokenizer.vocab_size, config.model), tokenizer, config)


def test_a_push_tells_nothing_of_where_the_texts_lay(predictor: LanguageModelPredictor, fake: type[FolderHub]) -> None:
    data = predictor.config.data.model_copy(update={"train": ["/home/cook/secret plans/salads.txt", "-"]})
    private = LanguageModelPredictor(
        predictor.model, predictor.tokenizer, predictor.config.model_copy(update={"data": data})
    )
    private.push_to_hub("cook/plans")
    texts = [path.read_text() for path in (fake.root / "cook/plans").iterdir() if path.suffix in (".yaml", ".md")]
    assert any("salads.txt" in text for text in texts)
    assert not any("secret plans" in text for text in texts)


def test_what_is_pushed_is_what_is_loaded(predictor: LanguageModelPredictor, fake: type[FolderHub]) -> None:
    address = predictor.push_to_hub("cook/salads", private=True, token="secret", commit_message="first")
    assert address == "https://hub.example/cook/salads/commit/1"
    assert ("create_repo", {"repo_id": "cook/salads", "private": True}) in fake.calls
    assert ("HfApi", {"token": "secret"}) in fake.calls
    assert {path.name for path in (fake.root / "cook/salads").iterdir()} == {*NEEDED, "README.md"}
    for loaded in (recurra.load("cook/salads", revision="v1"), LanguageModelPredictor.from_pretrained("cook/salads")):
        assert loaded.score(["the pear"]) == predictor.score(["the pear"])
    assert ("snapshot_download", {"repo_id": "cook/salads", "revision": "v1"}) in fake.calls


def test_the_card_has_metadata_that_the_hub_reads(predictor: LanguageModelPredictor, fake: type[FolderHub]) -> None:
    predictor.push_to_hub("cook/salads")
    _, head, body = (fake.root / "cook/salads/README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["library_name"] == "recurra"
    assert metadata["pipeline_tag"] == "text-generation"
    assert "lstm" in metadata["tags"]
    assert 'load("cook/salads")' in body


@pytest.mark.parametrize("joint", [True, False])
def test_a_translator_goes_to_the_hub_and_back(joint: bool, fake: type[FolderHub], tmp_path: Path) -> None:
    tied = "all" if joint else "decoder"
    config = TranslationConfig.model_validate(
        {
            "data": {"source": "/home/cook/secret plans/salads.en", "target": "salads.de"},
            "tokenizer": {"kind": "word", "joint": joint},
            "model": {"hidden_size": 8, "embedding_size": 8, "tied": tied},
        }
    )
    texts = [["apple salad", "pear salad"], ["Apfelsalat .", "Birnensalat ."]]
    both = SentenceTokenizer.train([text for side in texts for text in side], config.tokenizer)
    tokenizers = [both if joint else SentenceTokenizer.train(side, config.tokenizer) for side in texts]
    torch.manual_seed(0)
    model = EncoderDecoder(tokenizers[0].vocab_size, tokenizers[1].vocab_size, config.model)
    translator = Translator([model], (tokenizers[0], tokenizers[1]), config)
    translator.push_to_hub("cook/salads")
    names = ["tokenizer.json"] if joint else ["tokenizer.source.json", "tokenizer.target.json"]
    files = {path.name: path for path in (fake.root / "cook/salads").iterdir()}
    assert set(files) == {"config.yaml", "model.safetensors", "README.md", *names}
    _, head, body = files["README.md"].read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "translation" and "8 units, additive attention" in body
    assert "secret plans" not in files["config.yaml"].read_text() and "salads.en" in files["config.yaml"].read_text()
    expected = translator.score(texts[0], texts[1])
    assert recurra.load("cook/salads", device="cpu").score(texts[0], texts[1]) == expected
    assert recurra.load(translator.save(tmp_path / "saved"), device="cpu").score(texts[0], texts[1]) == expected
    assert Translator.from_runs(["cook/salads", tmp_path / "saved"], device="cpu").score(*texts) == expected
    together = Translator([model, model], (tokenizers[0], tokenizers[1]), config)
    with pytest.raises(ConfigError, match="2 models decide together"):
        together.push_to_hub("cook/salads")


def test_only_what_predicting_needs_is_fetched(predictor: LanguageModelPredictor, fake: type[FolderHub]) -> None:
    predictor.push_to_hub("cook/salads")
    (fake.root / "cook/salads/pickled.bin").write_bytes(b"x")
    directory = hub.fetch("cook/salads")
    assert {path.name for path in directory.iterdir()} == set(NEEDED)


def test_separate_tokenizers_are_fetched_too(fake: type[FolderHub]) -> None:
    folder = fake.root / "cook/words"
    folder.mkdir(parents=True)
    save_config(TranslationConfig(), folder / "config.yaml")
    names = {"config.yaml", "model.safetensors", "tokenizer.source.json", "tokenizer.target.json"}
    for name in names - {"config.yaml"}:
        (folder / name).write_bytes(b"x")
    assert {path.name for path in hub.fetch("cook/words").iterdir()} == names
    (folder / "tokenizer.target.json").unlink()
    with pytest.raises(RunError, match=r"has no tokenizer\.json"):
        hub.fetch("cook/words")


def test_a_directory_here_is_never_looked_for_on_the_hub(
    predictor: LanguageModelPredictor, fake: type[FolderHub], tmp_path: Path
) -> None:
    predictor.save(tmp_path / "runs" / "first")
    assert recurra.load("runs/first", device="cpu").score(["a"]) == predictor.score(["a"])
    with pytest.raises(RunError, match=r"runs/frist: there is no such run directory"):
        recurra.load("runs/frist")
    assert fake.calls == []


def test_a_name_that_is_nowhere_is_one_sentence(fake: type[FolderHub]) -> None:
    with pytest.raises(RunError, match="neither a directory here nor a model") as caught:
        recurra.load("nobody/nothing")
    assert "\n" not in str(caught.value)
    assert "404 Client Error" in str(caught.value)


def test_a_foreign_repository_is_named(fake: type[FolderHub]) -> None:
    (fake.root / "other/model").mkdir(parents=True)
    with pytest.raises(RunError, match=r"other/model: this repository on the Hub has no config\.yaml"):
        recurra.load("other/model")


def test_a_downloaded_configuration_runs_no_file(
    predictor: LanguageModelPredictor, fake: type[FolderHub], tmp_path: Path
) -> None:
    predictor.push_to_hub("cook/salads")
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Cell: pass\n", encoding="utf-8")
    path = fake.root / "cook/salads/config.yaml"
    config = load_config(path, [{"model": {"cell": f"{trap}:Cell"}}])
    save_config(config, path)
    with pytest.raises(RunError, match="its cell comes from a file"):
        recurra.load("cook/salads")
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(RunError, match="a cell of your own cannot be loaded from the Hub"):
        hub.push("cook/salads", config, {}, predictor.model)


def test_a_hub_that_refuses_is_one_sentence(
    predictor: LanguageModelPredictor, fake: type[FolderHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FolderHub, repo_id: str, **options: Any) -> None:
        raise PermissionError("401 Unauthorized\nInvalid username or password.")

    monkeypatch.setattr(FolderHub, "create_repo", refuse)
    with pytest.raises(
        RunError, match=r"cook/salads: cannot be uploaded to the Hub \(PermissionError: 401 Unauthorized\)"
    ):
        predictor.push_to_hub("cook/salads")
