"""The page of states: its numbers, its safety, and what it does in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recurra.analysis.contexts import nearest_contexts
from recurra.errors import ConfigError, RunError
from recurra.pages import states
from recurra.pages.states import ShownLayer, ShownRanking, ShownSide, ShownUnit, quantised, write_states

from .browser import needs_browser, opened

RANDOM = np.random.default_rng(11)
HOSTILE = "<b>\u2028</script><script>document.title='taken'</script>\u202eמשה e\u0301 🍐\x1b[31m\x07\ud800&amp;\ufffe"


def made(text: str, units: int = 8, layers: int = 2) -> ShownSide:
    count = len(text)
    places = np.stack([np.arange(count), np.arange(count) + 1], axis=1)
    found = []
    for number in range(layers):
        h, c = (np.tanh(RANDOM.normal(size=(count, units))).astype(np.float32) * scale for scale in (1, 5))
        gate = RANDOM.random((count, 2)).astype(np.float32)
        shares = (RANDOM.random(units) / 2, RANDOM.random(units) / 2)
        found.append(
            ShownLayer(
                f"layer {number + 1}", {"h": h, "c": c}, {"i": gate, "f": gate}, (1, 5), {"i": shares, "f": shares}
            )
        )
    ranking = ShownRanking("quotes", "inside quotation marks", "auc", [ShownUnit(1, "c", 3, "0.91", "0.88", "0.004")])
    nothing = ShownRanking("brackets", "", "r", [], "it does not change in both halves of the text")
    return ShownSide("text", text, places, found, [ranking, nothing])


def page(tmp_path: Path, *sides: ShownSide, **first: Any) -> Path:
    path = tmp_path / "page.html"
    write_states(path, "States of runs/a <b>", sides, {"side": 0, "layer": 0, "state": "c", "unit": 2} | first, 0.5)
    return path


class _Elements(HTMLParser):
    """The scripts of a page, and everything in it that names an address."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.addresses: list[str] = []
        self.policy = ""
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self.addresses += [name for name in given if name.startswith("on")]
        if tag == "script":
            self._open = given["id"] or ""
            self.scripts[self._open] = ""
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts[self._open] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = None


def elements(path: Path) -> _Elements:
    found = _Elements()
    found.feed(path.read_text(encoding="utf-8"))
    return found


def test_numbers_of_8_bits_are_as_near_as_is_said() -> None:
    values = (RANDOM.normal(size=(200, 7)) * [1, 5, 100, 1e-3, 1, 1, 0]).astype(np.float32)
    numbers, scales = quantised(values)
    assert numbers.shape == (7, 200) and numbers.dtype == np.int8
    np.testing.assert_array_equal(scales, np.abs(values).max(axis=0))
    wrong = np.abs(numbers.T * scales.astype(np.float64) / 127 - values)
    assert (wrong <= scales / 254 * (1 + 1e-6)).all()
    assert (numbers[values.T == 0] == 0).all() and numbers.min() >= -127


def test_the_page_holds_all_states_in_the_order_of_its_units(tmp_path: Path) -> None:
    side = made("some text")
    data = json.loads(elements(page(tmp_path, side)).scripts["data"])
    layer = data["sides"][0]["layers"][1]
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(layer["states"]["c"]["bytes"])), np.int8).reshape(8, 9)
    near = numbers.T * np.array(layer["states"]["c"]["scales"]) / 127
    np.testing.assert_allclose(near, side.layers[1].states["c"], atol=5 / 254 + 1e-5)
    gates = np.frombuffer(zlib.decompress(base64.b64decode(layer["gates"]["f"])), np.uint8).reshape(2, 9)
    np.testing.assert_allclose(gates.T / 255, side.layers[1].gates["f"], atol=1 / 509)


def test_one_script_alone_may_run_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    found = elements(page(tmp_path, made(HOSTILE)))
    assert set(found.scripts) == {"data", "program"} and found.addresses == []
    digest = base64.b64encode(hashlib.sha256(found.scripts["program"].encode()).digest()).decode()
    assert found.policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    path = page(tmp_path, made(HOSTILE))
    raw = path.read_text(encoding="utf-8")
    assert "\u2028" not in raw and "\u202e" not in raw and raw.count("</script") == 2
    assert "States of runs/a &lt;b&gt;" in raw
    data = json.loads(elements(path).scripts["data"])
    assert "".join(data["sides"][0]["tokens"]) == HOSTILE


def test_tokens_that_are_parts_of_a_character_show_it_once(tmp_path: Path) -> None:
    side = made("ab  c")
    places = np.array([[0, 1], [1, 2], [1, 2], [1, 2], [4, 5]])
    tokens = json.loads(elements(page(tmp_path, ShownSide("text", side.text, places, side.layers))).scripts["data"])[
        "sides"
    ][0]
    assert tokens["tokens"] == ["a", "b", "", "", "c"] and tokens["gaps"] == ["", "", "", "", "  "]


def test_too_many_states_and_a_place_that_cannot_be_written_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        write_states(tmp_path / "none" / "page.html", "", [made("abc")], {}, 0.5)
    monkeypatch.setattr(states, "MOST_BYTES", 100)
    with pytest.raises(ConfigError, match="fewer layers"):
        page(tmp_path, made("abc"))


def test_h_and_c_of_2_x_512_units_over_10000_tokens_fit_into_30_megabytes(tmp_path: Path) -> None:
    # What compresses worst: numbers that know nothing of one another.
    values = {name: RANDOM.uniform(-1, 1, (10_000, 512)).astype(np.float32) for name in ("h", "c")}
    side = made("x" * 10_000, units=1, layers=0)
    layers = [ShownLayer(f"layer {number}", values) for number in (1, 2)]
    path = page(tmp_path, ShownSide("text", side.text, side.places, layers))
    assert path.stat().st_size < 30_000_000


@needs_browser
def test_the_page_opens_without_a_word_of_complaint(tmp_path: Path) -> None:
    found = opened(page(tmp_path, made(HOSTILE + " and more text")))
    assert found.console == []
    assert "taken" not in re.findall(r"<title>(.*?)</title>", found.document)[0]
    text = found.text("text")
    assert "<script>document.title='taken'</script>" in text and "[202e]" in text and "[001b][31m[0007]" in text
    assert "[2028]" in text
    assert re.search(r"layer 1, token 0 “<”: c of unit 2 is -?\d\.\d{3}$", found.text("said"))


@needs_browser
def test_an_address_chooses_layer_state_unit_and_token(tmp_path: Path) -> None:
    side = made("the pear and the pair")
    path = page(tmp_path, side)
    found = opened(path, "layer=1&state=h&unit=5&token=4")
    value = side.layers[1].states["h"][4, 5]
    said = re.fullmatch(r"layer 2, token 4 “p”: h of unit 5 is (\S+); gates i (\S+), f (\S+)", found.text("said"))
    assert said is not None
    # Three decimals, and 8 bits.
    assert abs(float(said[1]) - value) < 0.0006 + 1 / 254
    assert abs(float(said[2]) - side.layers[1].gates["i"][4, 1]) < 0.0051 + 1 / 510
    assert 'data-ready="side=0&amp;layer=1&amp;state=h&amp;unit=5&amp;token=4&amp;from=0&amp;to=0"' in found.document
    # What does not exist is brought within what there is.
    assert "layer 2, token 20" in opened(path, "layer=99&unit=-3&token=1e9&state=x").text("said")


@needs_browser
def test_the_text_is_coloured_by_the_unit(tmp_path: Path) -> None:
    side = made("abc")
    values = side.layers[0].states["c"][:, 2]
    values[:] = [1.0, -0.5, 0.0]
    found = opened(page(tmp_path, side))
    shades = re.findall(r'data-place="\d"[^>]*rgba?\(([^)]*)\)', found.document)
    assert [[float(part) for part in shade.split(",")[:3]] for shade in shades] == [
        [230, 130, 20],
        [50, 110, 220],
        [230, 130, 20],
    ]
    assert [float(shade.split(",")[3]) for shade in shades] == pytest.approx([0.85, 0.85 * 64 / 127, 0.0], abs=0.01)


@needs_browser
def test_places_like_a_span_are_those_of_the_library(tmp_path: Path) -> None:
    side = made("x" * 300, units=40)
    path = page(tmp_path, side)
    found = opened(path, "state=h&from=17&to=18")
    numbers, _ = quantised(side.layers[0].states["h"])
    wanted = nearest_contexts(numbers.T.astype(np.float64), 17, 18, count=10, threshold=0.5)
    shown = re.findall(r">(\d+)% at token (\d+)<", found.document)
    assert [(int(token), int(share)) for share, token in shown] == [
        (place.start, int(100 * place.share + 0.5)) for place in wanted.places
    ]
    assert f"{len(wanted.units)} of 40 units are on" in found.text("contexts-said")


@needs_browser
def test_keys_and_clicks_choose(tmp_path: Path) -> None:
    path = page(tmp_path, made("the pear and the pair"))
    probe = """
    setTimeout(() => {
      const key = (id, name, shiftKey) => document.getElementById(id).dispatchEvent(
        new KeyboardEvent("keydown", { key: name, shiftKey, bubbles: true, cancelable: true }));
      key("text", "ArrowRight"); key("text", "ArrowRight"); key("text", "ArrowRight", true);
      key("heat", "ArrowDown");
      setTimeout(() => {
        const first = document.getElementById("said").textContent;
        document.querySelector("#rankings button").click();
        setTimeout(() => { document.title = first + " | " + document.getElementById("said").textContent; }, 300);
      }, 300);
    }, 300);
    """
    found = opened(path, probe=probe)
    title = re.findall(r"<title>(.*?)</title>", found.document)[0]
    first, second = title.split(" | ")
    assert first.startswith("layer 1, token 3 space: c of unit 3 is")
    assert second.startswith("layer 2, token 3 space: c of unit 3 is")
    assert "from=2&amp;to=4" in found.document


@needs_browser
def test_a_second_text_is_chosen(tmp_path: Path) -> None:
    path = page(
        tmp_path, made("source text"), ShownSide("translation", "a", np.array([[0, 1]]), made("a", 3, 1).layers)
    )
    found = opened(path, "side=1&unit=7&token=5")
    assert found.text("text") == "a" and "layer 1, token 0 “a”: c of unit 2 is" in found.text("said")
    assert found.console == []
