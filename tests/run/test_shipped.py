"""Models that come with the package: found by name, small, and asked without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

import recurra
from recurra.errors import RunError
from recurra.run import hub, shipped
from recurra.run.directory import read_run


def test_a_name_means_a_model_of_the_package_unless_it_means_something_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package" / "english-upos").mkdir(parents=True)
    (tmp_path / "package" / "a-file").touch()
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    assert shipped.shipped_models() == ["english-upos"]
    assert hub.fetch("english-upos") == tmp_path / "package" / "english-upos"
    assert hub.fetch("a-file") == Path("a-file")
    assert hub.fetch("package/english-upos") == Path("package/english-upos")
    with pytest.raises(RunError, match=r"there is no such run directory; did you mean english-upos\?"):
        read_run("english-upso")
    (tmp_path / "english-upos").mkdir()
    assert hub.fetch("english-upos") == Path("english-upos")


def test_without_models_no_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path / "nothing")
    assert shipped.shipped_models() == []
    with pytest.raises(RunError, match="there is no such run directory"):
        recurra.load("english-upos")


def test_the_models_of_the_package_are_small_and_say_whose_they_are() -> None:
    assert shipped.shipped_models() == ["english-upos", "korean-sentiment"]
    for name in shipped.shipped_models():
        folder = hub.fetch(name)
        assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert f'load("{name}")' in card and "\nlicense: cc" in card and "Accuracy on" in card
        # Where the data lay on somebody's machine is nobody's business.
        assert "/" not in "".join(read_run(folder).config.data.train)


def test_a_model_of_the_package_answers_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("asked for a network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    model = recurra.load("english-upos", device="cpu")
    (answer,) = model.tag([["The", "dog", "quickly", "ate", "two", "pears", "."]])
    assert answer.tags["upos"] == ("DET", "NOUN", "ADV", "VERB", "NUM", "NOUN", "PUNCT")
    assert all(weight.dtype.itemsize == 4 for weight in model.model.parameters())


def test_a_classifier_of_the_package_answers() -> None:
    good, bad = recurra.load("korean-sentiment", device="cpu").classify(["정말 재미있게 봤어요", "돈 아깝다 최악"])
    assert (good.labels, bad.labels) == (("1",), ("0",))
