"""`recurra inspect states` on a tiny run of each system, and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from recurra import registry
from recurra.analysis import recording
from recurra.cli.inspect_states import states_command
from recurra.cli.main import app
from recurra.pages import states

from ..analysis.tiny_runs import LINES, SYSTEMS, train_tiny

TEXTS = {
    "language-model": "\n".join(LINES[:9]),
    "translation": "the red apple\na dog sees the cat\n",
    "classification": "the song is sweet\nthe pear is rotten\n",
    "tagging": "the pear eats the pear .\nthe dog sees .\n",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {system: train_tiny(system, tmp_path_factory.mktemp(system)) for system in SYSTEMS}


def asked(*words: object, stdin: str | None = None, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["inspect", "states", *map(str, words)], input=stdin)
    assert result.exit_code == code, result.output
    assert "internal error" not in result.stderr
    return result.stdout, result.stderr


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_is_looked_into(system: str, runs: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text(TEXTS[system], encoding="utf-8")
    page, picture = tmp_path / "states.html", tmp_path / "states.png"
    out, _ = asked(runs[system], "--data", data, "--json", "--page", page, "--picture", picture)
    found = json.loads(out)["sides"]
    assert [side["side"] for side in found] == (["source", "translation"] if system == "translation" else ["text"])
    tokens = len(TEXTS[system]) if system == "language-model" else len(TEXTS[system].split())
    assert found[0]["tokens"] == tokens
    for side in found:
        for layer in side["layers"]:
            lstm = system != "translation"
            assert layer["states"] == (["h", "c"] if lstm else ["h"])
            assert set(layer["gates"]) == ({"i", "f", "o"} if lstm else {"r", "z"})
            for gate in layer["gates"].values():
                assert len(gate["units_open"]) == layer["units"] and 0 <= gate["closed"] + gate["open"] <= 1
        assert [each["property"] for each in side["properties"]] == [
            "line",
            "quotes",
            "brackets",
            "spaces",
            "word-starts",
        ]
    assert "<script" in page.read_text() and imread(picture).shape[2] == 4
    # What was looked at is shown to people, too.
    text, _ = asked(runs[system], "--data", data)
    assert "below 0.1" in text and "layer 1" in text and "tokens" in text


def test_the_units_of_a_language_model_follow_where_it_is(runs: dict[str, Path]) -> None:
    out, _ = asked(runs["language-model"], TEXTS["language-model"], "--json", "--property", "spaces", "--top", 2)
    (ranking,) = json.loads(out)["sides"][0]["properties"]
    assert ranking["score"] == "auc" and len(ranking["units"]) == 2
    first = ranking["units"][0]
    # Even a net that has learnt next to nothing knows what it has just read.
    assert abs(first["second_half"] - 0.5) > 0.2 and first["p"] < 0.2


def test_units_and_layers_are_chosen(runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "states.html"
    out, _ = asked(
        runs["language-model"], TEXTS["language-model"], "--layer", 2, "--units", "3,best:quotes",
        "--property", "quotes", "--page", page, "--json",
    )  # fmt: skip
    (side,) = json.loads(out)["sides"]
    assert [layer["layer"] for layer in side["layers"]] == [2]
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    best = side["properties"][0]["units"][0]["unit"]
    assert data["sides"][0]["layers"][0]["gateUnits"] == list(dict.fromkeys([3, best]))


def test_one_state_is_chosen(runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "states.html"
    out, _ = asked(runs["language-model"], TEXTS["language-model"], "--state", "c", "--page", page, "--json")
    (side,) = json.loads(out)["sides"]
    assert all(unit["state"] == "c" for ranking in side["properties"] for unit in ranking["units"])
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    assert [list(layer["states"]) for layer in data["sides"][0]["layers"]] == [["c"], ["c"]]


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_untrained_network_is_compared(system: str, runs: dict[str, Path], tmp_path: Path) -> None:
    data, page = tmp_path / "text.txt", tmp_path / "states.html"
    data.write_text(TEXTS[system] * 2, encoding="utf-8")
    words = [runs[system], "--data", data, "--property", "line"]
    (plain,) = json.loads(asked(*words, "--json")[0])["sides"][0]["properties"]
    (both,) = json.loads(asked(*words, "--untrained", "--json", "--page", page)[0])["sides"][0]["properties"]
    assert plain["untrained"] is None and plain["units"] == both["units"]
    assert set(both["untrained"]) == set(both["units"][0]) and -1 <= both["untrained"]["second_half"] <= 1
    assert both["untrained"]["second_half"] != both["units"][0]["second_half"]
    shown = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])["sides"][0]["rankings"]
    assert float(shown[0]["untrained"]) == pytest.approx(both["untrained"]["second_half"], abs=6e-4)
    assert "untrained" in asked(*words, "--untrained")[0]


def test_places_like_a_span_are_shown(runs: dict[str, Path]) -> None:
    # The same line twice, after the same lines: the same states, but for what is carried over from the first one.
    text = "\n".join(["And the pair of tongs?"] * 6)
    words = [runs["language-model"], text, "--span", "46:52", "--top", "3"]
    side = json.loads(asked(*words, "--json")[0])["sides"][0]
    assert side["span"] == [46, 52] and {(each["layer"], each["state"]) for each in side["contexts"]} == {
        ("layer 1", "h"), ("layer 1", "c"), ("layer 2", "h"), ("layer 2", "c"),
    }  # fmt: skip
    found = [each for each in side["contexts"] if each["units"]]
    assert found and all(len(each["places"]) <= 3 for each in found)
    for each in found:
        shares = [place["share"] for place in each["places"]]
        assert shares[0] == 1.0 and shares == sorted(shares, reverse=True)
        for place in each["places"]:
            assert place["stop"] == place["start"] + 6 and (place["stop"] <= 46 or place["start"] >= 52)
            assert place["text"] == text[place["start"] : place["stop"]]
    out, _ = asked(*words)
    assert "[And th]e pair of " in out and "100%" in out


def test_own_labels_are_a_property(runs: dict[str, Path], tmp_path: Path) -> None:
    text = TEXTS["language-model"]
    places = [place for place in range(len(text)) if text.startswith("pair", place)]
    labels = tmp_path / "labels.tsv"
    labels.write_text("".join(f"{place}\t{place + 4}\tpair\n" for place in places), encoding="utf-8")
    out, _ = asked(runs["language-model"], text, "--labels", labels, "--json", "--units", "best:label")
    assert json.loads(out)["sides"][0]["properties"][-1]["property"] == "label:pair"
    labels.write_text("1\n2\n", encoding="utf-8")
    _, said = asked(runs["language-model"], text, "--labels", labels, code=1)
    assert "2 lines" in said and str(labels) in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a text"),
        (["a", "--property", "quotez"], "did you mean quotes?"),
        (["a", "--property", "label"], "--labels"),
        (["a", "--units", "x"], "--units x: give numbers"),
        (["a", "--units", "best:lime"], "did you mean line?"),
        (["a", "--span", "7:7"], "--span 7:7: give the first token"),
        (["a", "--page", "none/states.html"], "--page none/states.html"),
        (["a", "--layer", "0"], "--layer"),
    ],
)
def test_options_are_refused_before_anything_is_loaded(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, found = asked("no-run", *words, code=2)
    assert said in found and len(found.strip().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["abc", "--layer", "3"], "--layer 3: the model has layers 1 to 2", 2),
        (["abc", "--span", "1:4"], "--span 1:4: give tokens of 0:3", 2),
        (["abc", "--state", "z"], "--state z: the layers have the states h and c", 2),
        (["abc", "--units", "7"], "--units 7: the layers have the units 0 to 6", 2),
        (["abc", "--units", "best:quotes", "--property", "line"], "add it to --property", 2),
        ([""], "there is no text to read", 2),
    ],
)
def test_what_does_not_fit_the_model_is_refused(words: list[str], said: str, code: int, runs: dict[str, Path]) -> None:
    _, found = asked(runs["language-model"], *words, code=code)
    assert said in found and len(found.strip().splitlines()) == 1


def test_outputs_never_overwrite_inputs(runs: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "text.txt"
    data.write_text("some text", encoding="utf-8")
    config = runs["language-model"] / "config.yaml"
    before = config.read_bytes()
    for flag, path in (("--page", data), ("--picture", data), ("--page", config), ("--picture", config)):
        _, said = asked(runs["language-model"], "--data", data, flag, path, code=2)
        assert "would destroy" in said
    same = tmp_path / "one.html"
    _, said = asked(runs["language-model"], "--data", data, "--page", same, "--picture", same, code=2)
    assert "name two" in said
    assert data.read_text() == "some text" and config.read_bytes() == before and not same.exists()


@pytest.mark.parametrize("system", ["language-model", "tagging"])
def test_a_long_text_is_cut_and_that_is_said(
    system: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "text.txt"
    data.write_text(TEXTS[system] * 5, encoding="utf-8")
    numbers = 6 * 7 * 2 * (1 if system == "language-model" else 2)
    monkeypatch.setattr(recording, "MOST_NUMBERS", numbers * 23)
    out, said = asked(runs[system], "--data", data, "--json")
    assert json.loads(out)["sides"][0]["tokens"] == (22 if system == "language-model" else 23)
    assert "read up to 23 tokens" in said
    monkeypatch.setattr(states, "MOST_BYTES", 1000)
    out, said = asked(runs[system], "--data", data, "--json", "--page", tmp_path / "states.html")
    assert json.loads(out)["sides"][0]["tokens"] < 20 and "read up to" in said


def test_a_text_beyond_the_limit_of_the_model_is_told(tmp_path: Path) -> None:
    run = train_tiny("classification", tmp_path)
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "max_length: " in text
    config.write_text(re.sub("max_length: [0-9]+", "max_length: 3", text), encoding="utf-8")
    out, said = asked(run, "the pear", "the song is sweet", "--json")
    assert json.loads(out)["sides"][0]["tokens"] == 5 and "text 2 is longer than 3 tokens" in said


def test_a_system_that_says_nothing_of_how_it_reads_is_told(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = registry.find("tagging")
    monkeypatch.setattr("recurra.systems.tagging.SYSTEM", replace(system, reader=""))
    _, said = asked(runs["tagging"], "a pear", code=1)
    assert "its system tagging does not say how it reads a text" in said


def test_every_option_has_help_with_its_default() -> None:
    for parameter in states_command().params:
        text = parameter.help or ""
        assert text.strip(), parameter.name
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert "(default: " in text or (parameter.show_default and parameter.default is not None), parameter.name


def test_control_characters_stay_out_of_the_terminal(runs: dict[str, Path]) -> None:
    out, said = asked(runs["language-model"], "a\x1b[31m text (with) brackets\nand \x07 lines")
    assert "\x1b" not in out + said and "\x07" not in out + said


def test_help_tells_of_every_property() -> None:
    result = CliRunner().invoke(app, ["inspect", "--help"])
    assert result.exit_code == 0 and "states" in result.stdout
    result = CliRunner().invoke(app, ["inspect", "states", "--help"])
    assert result.exit_code == 0 and "quotes" in result.stdout and "brackets" in result.stdout
    result = CliRunner().invoke(app, ["inspect", "stats"])
    assert result.exit_code == 2 and "did you mean states?" in result.stderr
