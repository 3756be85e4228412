// Puts the page of states together: controls, text, tables, and what happens when something else is chosen.

let items = [];
let drawn = 0;

/** Chooses something else and shows it. */
function show(wanted) {
  const before = { ...chosen };
  choose(wanted);
  if (chosen.side !== before.side) makeText();
  update(before);
}

async function update(before = {}) {
  const own = (drawn += 1);
  const { numbers, scales } = await numbersOf(layer(), chosen.state);
  const gates = await gatesOf(layer(), chosen.unit, steps());
  // Something else was chosen while the numbers were unpacked.
  if (own !== drawn) return;
  const same = (...keys) => keys.every((each) => before[each] === chosen[each]);
  if (!same("side", "layer", "state", "unit")) {
    colourText(numbers);
    makeControls();
    drawSaturation((unit) => show({ unit }));
    if (!same("side")) makeRankings();
  }
  markText();
  drawTrace(numbers, gates);
  drawHeat(numbers);
  if (!same("side", "layer", "state", "from", "to")) showContexts(numbers);
  say(numbers, scales, gates);
  document.body.dataset.ready = address();
  try {
    window.history.replaceState(null, "", `#${address()}`);
  } catch {
    // A browser that does not let a file change its address shows the page all the same.
  }
}

function value(numbers, scales, unit, token) {
  return ((numbers[unit * steps() + token] * scales[unit]) / 127).toFixed(3);
}

function say(numbers, scales, gates, unit = chosen.unit, token = chosen.token) {
  const state = `${chosen.state} of unit ${unit} is ${value(numbers, scales, unit, token)}`;
  const others = Object.entries(unit === chosen.unit ? gates || {} : {});
  const said = others.map(([name, values]) => `${name} ${(values[token] / 255).toFixed(2)}`).join(", ");
  document.getElementById("said").textContent =
    `${layer().name}, token ${token} ${quoted(side().tokens[token])}: ${state}${said ? `; gates ${said}` : ""}`;
}

function makeText() {
  const text = document.getElementById("text");
  text.replaceChildren();
  items = side().tokens.map((token, place) => element("span", { "data-place": place }, shown(token)));
  items.forEach((item, place) => text.append(shown(side().gaps[place]), item));
}

/** Scrolls the text, and not the page, so that a token can be seen. */
function reveal(place) {
  const text = document.getElementById("text");
  text.scrollTop = items[place].offsetTop - text.offsetTop - text.clientHeight / 2;
}

// The ground of every number of 8 bits, for there may be many tokens.
const grounds = Array.from({ length: 256 }, (_, place) => ground((place - 128) / 127));

function colourText(numbers) {
  const base = chosen.unit * steps();
  items.forEach((item, place) => {
    item.style.backgroundColor = grounds[numbers[base + place] + 128];
  });
}

let marked = [];

function markText() {
  for (const item of marked) item.classList.remove("here", "chosen");
  marked = [items[chosen.token], ...items.slice(chosen.from, chosen.to)];
  marked.forEach((item, place) => item.classList.add(place ? "chosen" : "here"));
}

function picker(label, name, options, number = false) {
  const select = element("select", { id: name });
  options.forEach((option, place) => select.append(element("option", { value: number ? place : option }, option)));
  select.value = String(chosen[name]);
  select.addEventListener("change", () => show({ [name]: select.value }));
  return element("label", {}, `${label} `, select);
}

function field(label, name, most) {
  const input = element("input", { type: "number", id: name, min: 0, max: most, value: chosen[name] });
  input.addEventListener("change", () => show({ [name]: input.value }));
  return element("label", {}, `${label} `, input);
}

function makeControls() {
  const focused = document.activeElement && document.activeElement.id;
  const controls = document.getElementById("controls");
  controls.replaceChildren();
  if (data.sides.length > 1) controls.append(picker("Text", "side", data.sides.map((each) => each.name), true));
  controls.append(picker("Layer", "layer", side().layers.map((each) => each.name), true));
  controls.append(picker("State", "state", Object.keys(layer().states)));
  controls.append(field(`Unit, 0 to ${layer().units - 1}`, "unit", layer().units - 1));
  if (focused && controls.querySelector(`#${focused}`)) document.getElementById(focused).focus();
}

function makeRankings() {
  const rankings = document.getElementById("rankings");
  rankings.replaceChildren();
  for (const ranking of side().rankings) {
    const made = element("div", {}, element("h3", {}, shown(ranking.property)));
    made.append(element("p", { class: "quiet" }, shown(ranking.remark || ranking.about)));
    const rows = ranking.units.map((unit) => {
      const name = `${unit.state} ${unit.unit}, ${side().layers[unit.layer].name}`;
      const button = element("button", { type: "button" }, name);
      button.addEventListener("click", () => show({ layer: unit.layer, state: unit.state, unit: unit.unit }));
      return [button, unit.chosen, unit.held_out, unit.p];
    });
    const score = ranking.score === "auc" ? "AUC" : "r";
    if (rows.length) made.append(table(["unit", `${score}, first half`, "second half", "p"], rows));
    if (ranking.untrained) {
      made.append(element("p", { class: "quiet" }, `With new weights the best unit has ${ranking.untrained} on the second half.`));
    }
    rankings.append(made);
  }
  if (!side().rankings.length) rankings.append("No property was asked for.");
}

function showContexts(numbers) {
  const span = document.getElementById("span");
  const focused = document.activeElement && document.activeElement.id;
  const threshold = element("input", { type: "number", id: "threshold", min: 0.05, max: 1, step: 0.05, value: data.threshold });
  threshold.addEventListener("change", () => {
    data.threshold = Math.min(Math.max(Number(threshold.value) || 0.5, 0.05), 1);
    showContexts(numbers);
  });
  span.replaceChildren(
    field("From token ", "from", steps()), " ", field("to before ", "to", steps()), " ",
    element("label", {}, "On from ", threshold),
  );
  if (focused && span.querySelector(`#${focused}`)) document.getElementById(focused).focus();
  const list = document.getElementById("contexts");
  const said = document.getElementById("contexts-said");
  list.replaceChildren();
  if (chosen.to <= chosen.from) {
    said.textContent = "Choose a span: drag over tokens, hold Shift with the arrow keys, or fill in the fields.";
    return;
  }
  const found = nearestContexts(numbers, steps(), layer().units, chosen.from, chosen.to, data.threshold);
  const count = found.units.length;
  said.textContent = count
    ? `Throughout ${quoted(textOf(chosen.from, chosen.to))} ${count} of ${layer().units} units are on: ${found.units.slice(0, 12).join(", ")}${count > 12 ? ", …" : ""}.`
    : "No unit is on throughout this span; choose a shorter one, or a lower bound.";
  for (const place of found.places) {
    const button = element("button", { type: "button" }, `${Math.round(place.share * 100)}% at token ${place.from}`);
    button.addEventListener("click", () => {
      show({ token: place.from });
      reveal(place.from);
    });
    const [before, own, after] = [[place.from - 20, place.from], [place.from, place.to], [place.to, place.to + 20]];
    list.append(element("li", {}, button, " ", textOf(...before), element("b", {}, textOf(...own)), textOf(...after)));
  }
}

function textOf(from, to) {
  let text = "";
  for (let place = Math.max(from, 0); place < Math.min(to, steps()); place += 1) {
    text += (place > from ? side().gaps[place] : "") + side().tokens[place];
  }
  return shown(text).replace(/\n/g, "");
}

let anchor = 0;

walk(document.getElementById("text"), () => items, () => chosen.token, (place, extend) => {
  if (!extend) anchor = place;
  const span = extend ? { from: Math.min(anchor, place), to: Math.max(anchor, place) + 1 } : {};
  show({ token: place, ...span });
});

const heat = document.getElementById("heat");

heat.addEventListener("pointermove", async (event) => {
  const { unit, token } = underPointer(event);
  const { numbers, scales } = await numbersOf(layer(), chosen.state);
  say(numbers, scales, null, unit, token);
});
heat.addEventListener("click", (event) => show(underPointer(event)));
heat.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!(event.key in moves)) return;
  event.preventDefault();
  show({ unit: chosen.unit + moves[event.key][0], token: chosen.token + moves[event.key][1] });
});
window.addEventListener("resize", () => update());
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update());
window.addEventListener("hashchange", () => {
  if (window.location.hash.slice(1) === address()) return;
  show(fromAddress());
  reveal(chosen.token);
});

choose(fromAddress());
makeText();
reveal(chosen.token);
update();
