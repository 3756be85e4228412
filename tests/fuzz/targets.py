"""What is damaged, and the commands that then read it.

Two small runs are trained once; every case gets a copy of one with one file damaged, in a folder of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import yaml

from .mutations import damage_bytes, damage_lines, damage_tree

__all__ = ["TARGETS", "Target", "train_runs"]

TEXT = "the apple is red\nthe pear is green\nan apple and a pear make a salad\n사과와 배\n" * 6
LABELLED = [("sweet", "an apple and a pear"), ("sour", "a lemon"), ("sweet", "사과 하나"), ("sour", "the grey day")] * 5
TAGGED = [("an", "DET"), ("apple", "NOUN"), ("사과", "NOUN"), ("eats", "VERB"), (".", "PUNCT")]
PAIRS = [("an apple", "ein Apfel"), ("a pear", "eine Birne"), ("a red pear", "eine rote Birne"), ("사과", "Apfel")] * 5

SETTINGS = """# A comment, 사과.
task: language-model
data:
  train: [nowhere.txt, "no where/*.gz"]
  validation_fraction: 0.1
tokenizer: {kind: bpe, vocab_size: 300, lowercase: true}
model:
  cell: lstm
  hidden_size: [8, 4]
  dropout: .2
training: &training
  optimizer: adamw
  learning_rate: 2e-3
  betas: [0.9, 0.99]
  max_minutes: null
logging: {progress: no}
"""

Damage = Callable[[Random, Path], None]


class Target(NamedTuple):
    """A file that is read.

    Attributes:
        runs: of which one is taken for each case; none: the file lies by itself.
        file: what is damaged, relative to the run, or to the folder that the run lies in.
        damage: changes it.
        command: reads it; {run} is the run, {folder} what it lies in.
    """

    runs: tuple[str, ...]
    file: str
    damage: Damage
    command: str


def train_runs(folder: Path, invoke: Callable[..., Any]) -> None:
    """Train the small runs, one for each kind of tokenizer and one of each other system, and write the texts."""
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), encoding="utf-8")
    lines = [json.dumps({"source": a, "target": b}, ensure_ascii=False) + "\n" for a, b in PAIRS]
    (folder / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "config.yaml").write_text(SETTINGS, encoding="utf-8")
    (folder / "spans.tsv").write_text("".join(f"{n}\t{n + 4}\tfruit\n" for n in range(0, 200, 9)), encoding="utf-8")
    small = ["training.max_steps=2", "training.save_every=1", "training.device=cpu", "training.num_threads=1"]
    small += ["logging.tensorboard=false", "logging.picture=false", "logging.progress=false"]
    for kind in ("character", "word", "whitespace", "bpe", "unigram"):
        size = ["tokenizer.vocab_size=290"] if kind in ("bpe", "unigram") else []
        model = [
            "training.batch_size=2",
            "model.hidden_size=4",
            "model.num_layers=1",
            "training.sequence_length=8",
            f"tokenizer.kind={kind}",
        ]
        invoke("train", "language-model", "--data", str(folder / "text.txt"), "--run", str(folder / kind), "--set",
               *small, *model, *size)  # fmt: skip
    model = [
        "model.hidden_size=4",
        "model.embedding_size=4",
        "tokenizer.vocab_size=290",
        # Long lines take long to translate, which is no fault.
        "decoding.max_source_length=50",
        "data.validation_fraction=0.2",
    ]
    invoke("train", "translation", "--data", str(folder / "pairs.tsv"), "--run", str(folder / "translation"), "--set",
           *small, *model)  # fmt: skip
    _train_readers(folder, invoke, small)
    # The process that watches has no use for what these import.
    from recurra.data.pair_corpus import ParallelCorpus
    from recurra.run.directory import read_run
    from recurra.systems.translation.data import open_pairs

    # As the pairs of a run lay before there was a store of examples.
    shutil.copytree(folder / "translation", folder / "arrays")
    data = folder / "arrays" / "data"
    pairs, _ = open_pairs(read_run(folder / "arrays"))
    sides = zip(*(pairs.pair(index) for index in range(len(pairs))), strict=True)
    rows = [[ids.astype(np.uint32) for ids in side] for side in sides]
    starts = [np.cumsum([0, *map(len, side)]) for side in rows]
    ParallelCorpus(
        np.concatenate(rows[0]), starts[0], np.concatenate(rows[1]), starts[1], pairs.characters, pairs.fingerprint
    ).save(data / "train.npz")
    for file in ("train.json", "train.arrow", "train.lengths.npy"):
        (data / file).unlink()


def _train_readers(folder: Path, invoke: Callable[..., Any], small: list[str]) -> None:
    """Train a classifier, and a tagger of two columns that reads a language model along; write their texts."""
    rows = "".join(f"{label}\t{text}\n" for label, text in LABELLED)
    (folder / "labelled.tsv").write_text(rows, encoding="utf-8")
    table = "".join(f'"{text}",{label}\n' for label, text in LABELLED)
    (folder / "labelled.csv").write_text(f"text,label\n{table}", encoding="utf-8")
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for label, text in LABELLED]
    (folder / "labelled.jsonl").write_text("".join(lines), encoding="utf-8")
    words = [f"{n}\t{word}\t_\t{tag}\tX\t_\t{n - 1}\troot\t_\t_\n" for n, (word, tag) in enumerate(TAGGED, start=1)]
    sentence = "# text = an apple\n1-2\tanapple\t_\t_\t_\t_\t_\t_\t_\t_\n" + "".join(words) + "5.1" + "\t_" * 9 + "\n\n"
    # No two sentences are the same, so that some are held out.
    sentences = [sentence.replace("apple", f"apple{number}") for number in range(12)]
    (folder / "tagged.conllu").write_text("".join(sentences), encoding="utf-8")
    columns = ["".join(f"{word}\t{tag}\tO\n" for word, tag in TAGGED).replace("apple", f"b{n}") for n in range(12)]
    (folder / "tagged.tsv").write_text("\n".join(columns), encoding="utf-8")
    size = ["model.hidden_size=4", "model.embedding_size=4", "data.validation_fraction=0.3", "training.samples=1"]
    invoke("train", "classification", "--data", str(folder / "labelled.tsv"), "--run", str(folder / "classification"),
           "--set", *small, *size, "tokenizer.vocab_size=290")  # fmt: skip
    invoke("train", "tagging", "--data", str(folder / "tagged.conllu"), "--tags", "upos", "xpos", "--run",
           str(folder / "tagging"), "--language-models", str(folder / "character"), "--set", *small, *size,
           "model.character_size=4")  # fmt: skip


def _bytes(random: Random, path: Path) -> None:
    path.write_bytes(damage_bytes(random, path.read_bytes()))


def _lines(random: Random, path: Path) -> None:
    path.write_bytes(random.choice([damage_bytes, damage_lines])(random, path.read_bytes()))


def _tree(share: float, load: Callable[[str], Any], dump: Callable[[Any, bool], str]) -> Damage:
    """Damage to the bytes of this share of the cases, and to the parsed tree of the others."""

    def damage(random: Random, path: Path) -> None:
        if random.random() < share:
            _bytes(random, path)
        else:
            changed = damage_tree(random, load(path.read_text(encoding="utf-8")))
            path.write_bytes(dump(changed, random.random() < 0.5).encode("utf-8", "surrogatepass"))

    return damage


_json = _tree(0.3, json.loads, lambda tree, plain: json.dumps(tree, ensure_ascii=plain))
_yaml = _tree(0.4, yaml.safe_load, lambda tree, plain: yaml.safe_dump(tree, allow_unicode=plain))


def _json_lines(random: Random, path: Path) -> None:
    if random.random() < 0.4:
        return _lines(random, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    place = random.randrange(len(lines))
    lines[place] = json.dumps(damage_tree(random, json.loads(lines[place])))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return None


def _safetensors(random: Random, path: Path) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if random.random() < 0.4:
        # Most of the file is numbers, and most of what can be wrong is in the header.
        end = random.choice([8, 8 + size, len(data)])
        path.write_bytes(damage_bytes(random, data[:end]) + data[end:])
        return
    header = json.dumps(damage_tree(random, json.loads(data[8 : 8 + size])), ensure_ascii=False)
    written = header.encode("utf-8", "surrogatepass")
    path.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + size :])


def _arrays(random: Random, path: Path) -> None:
    if random.random() < 0.4:
        return _bytes(random, path)
    with np.load(path) as file:
        arrays = dict(file)
    name = random.choice(sorted(arrays))
    value = arrays[name]
    match random.randrange(7):
        case 0:
            del arrays[name]
        case 1:
            # Of text there is no number.
            numbers = value if value.dtype.kind in "iu" else np.zeros(3)
            arrays[name] = numbers.astype(random.choice(["f4", "i8", "u1", "U3", "?"]))
        case 2:
            arrays[name] = value[None]
        case 3:
            arrays[name] = np.resize(value, random.choice([0, 1, max(value.size - 1, 0), value.size + 1]))
        case 4:
            arrays[random.choice(sorted(arrays))] = value
        case 5 if value.size and value.dtype.kind in "iu":
            changed = value.copy().reshape(-1)
            limits = np.iinfo(value.dtype)
            changed[random.randrange(changed.size)] = random.choice([limits.min, limits.max, 0, 1, 1000])
            arrays[name] = changed.reshape(value.shape)
        case _:
            arrays["x"] = value
    held = io.BytesIO()
    np.savez(held, **arrays)
    path.write_bytes(held.getvalue())
    return None


def _sealed(damage: Damage) -> Damage:
    """Damage with the checksums of the manifest made to fit it."""

    def seal(random: Random, path: Path) -> None:
        damage(random, path)
        manifest = path.parent / "manifest.json"
        said = json.loads(manifest.read_text())
        data = path.read_bytes()
        said["files"][path.name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest.write_text(json.dumps(said))

    return seal


def _alone(damage: Damage) -> Damage:
    """Damage in the one checkpoint that there is, and no weights beside it."""

    def leave(random: Random, path: Path) -> None:
        damage(random, path)
        run = path.parents[2]
        (run / "model.safetensors").unlink()
        for folder in (run / "checkpoints").iterdir():
            if folder != path.parent:
                shutil.rmtree(folder)

    return leave


MODELS = ("character", "word", "whitespace", "bpe", "unigram")
_RESUME = "train --run {run} --resume --set training.max_steps=3"
_SCORE = "score {run} --text apple --text zebra"
_STATES = "inspect states {run} --data {folder}/text.txt"
_LAST = "checkpoints/last"

TARGETS: dict[str, tuple[Target, ...]] = {
    "config.yaml": (
        Target((*MODELS, "translation", "classification", "tagging"), "config.yaml", _yaml, "info {run}"),
        Target(("word", "translation"), "config.yaml", _yaml, _RESUME),
    ),
    "tokenizer.json": (Target(MODELS, "tokenizer.json", _json, _SCORE),),
    "safetensors": (
        Target(MODELS, "model.safetensors", _safetensors, _SCORE),
        Target(("word",), f"{_LAST}/tensors.safetensors", _alone(_sealed(_safetensors)), _RESUME),
    ),
    "metrics.jsonl": (Target(("word", "translation"), "metrics.jsonl", _json_lines, "info {run}"),),
    "state.json": (
        Target(("word", "translation"), f"{_LAST}/state.json", _alone(_sealed(_json)), _RESUME),
        Target(("word",), f"{_LAST}/manifest.json", _alone(_json), _SCORE),
    ),
    "prepared data": (
        Target(("bpe",), "data/train.json", _json, _RESUME),
        Target(("bpe",), "data/train", _bytes, _RESUME),
        Target(("translation",), "data/train.json", _json, _RESUME),
        Target(("translation",), "data/train.arrow", _bytes, _RESUME),
        Target(("translation",), "data/train.lengths.npy", _bytes, _RESUME),
        Target(("arrays",), "data/train.npz", _arrays, _RESUME),
        Target(("translation",), "data/valid.jsonl", _json_lines, _RESUME),
    ),
    "text": (
        Target(("bpe", "character"), "text.txt", _lines, "evaluate {run} --data {folder}/text.txt"),
        Target(("bpe", "character"), "text.txt", _lines, f"{_STATES} --page {{folder}}/page.html"),
        Target(("word", "tagging"), "spans.tsv", _lines, f"{_STATES} --labels {{folder}}/spans.tsv"),
    ),
    "TSV": (Target(("translation",), "pairs.tsv", _lines, "score {run} {folder}/pairs.tsv"),),
    "JSONL": (Target(("translation",), "pairs.jsonl", _json_lines, "score {run} {folder}/pairs.jsonl"),),
    "labels": (
        Target(("classification",), "labels.json", _json, "classify {run} --explain < {folder}/text.txt"),
        Target(("tagging",), "vocabulary.json", _json, "tag {run} {folder}/tagged.conllu"),
        Target(("classification",), "model.safetensors", _safetensors, "classify {run} < {folder}/text.txt"),
        Target(("tagging",), "model.safetensors", _safetensors, "tag {run} {folder}/tagged.conllu"),
    ),
    "labelled texts": (
        Target(("classification",), "labelled.tsv", _lines, "evaluate {run} --data {folder}/labelled.tsv"),
        Target(("classification",), "labelled.csv", _lines, "evaluate {run} --data {folder}/labelled.csv"),
        Target(("classification",), "labelled.jsonl", _json_lines, "evaluate {run} --data {folder}/labelled.jsonl"),
        Target(("classification",), "data/train.arrow", _bytes, _RESUME),
        Target(("classification",), "data/valid.json", _json, _RESUME),
    ),
    "tagged sentences": (
        Target(("tagging",), "tagged.conllu", _lines, "tag {run} {folder}/tagged.conllu"),
        Target(("tagging",), "tagged.conllu", _lines, "evaluate {run} --data {folder}/tagged.conllu"),
        Target(("tagging",), "tagged.tsv", _lines, "tag {run} {folder}/tagged.tsv --format columns"),
        Target(("tagging",), "data/train.arrow", _bytes, _RESUME),
        Target(("tagging",), "data/train.json", _json, _RESUME),
    ),
    # The text is missing, so that what is read as right trains nothing.
    "YAML": (Target((), "config.yaml", _yaml, "train --config {folder}/config.yaml --run {folder}/new"),),
}
"""What is read, and the ways to read it, which share its cases."""
