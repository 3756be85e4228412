// The pictures of the states: the unit over time, all units near the chosen token, and how saturated gates are.

const GATES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4]];
const CLOSED_OPEN = ["nearly closed", "nearly open"];
const PLOT = 190;

/** The first and the last step that pictures show, so many that the chosen token is in the middle. */
function shownSteps(width) {
  const wanted = Math.min(steps(), Math.max(40, Math.round(width / 7)));
  const first = Math.min(Math.max(chosen.token - Math.floor(wanted / 2), 0), steps() - wanted);
  return [first, first + wanted];
}

/** The state of the chosen unit between -1 and 1 of its scale, and its gates from 0 to 1, over time. */
function drawTrace(numbers, gates) {
  const canvas = document.getElementById("trace");
  const { context, width, height } = cleared(canvas, 170);
  const [first, last] = shownSteps(width);
  const step = width / (last - first);
  const top = 8;
  const low = height - 26;
  const across = (place) => (place - first + 0.5) * step;
  const line = (heightOf, colour, dash, thick) => {
    context.beginPath();
    for (let place = first; place < last; place += 1) context.lineTo(across(place), heightOf(place));
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.setLineDash(dash);
    context.stroke();
    context.setLineDash([]);
  };
  const colour = getComputedStyle(document.body).color;
  context.globalAlpha = 0.3;
  line(() => (top + low) / 2, colour, [], 1);
  context.globalAlpha = 0.15;
  context.fillRect(across(chosen.token) - step / 2, 0, step, height);
  context.globalAlpha = 1;
  const base = chosen.unit * steps();
  line((place) => (top + low) / 2 - ((numbers[base + place] / 127) * (low - top)) / 2, colour, [], 2.5);
  Object.values(gates || {}).forEach((values, number) => {
    const which = number % GATES.length;
    line((place) => low - (values[place] / 255) * (low - top), GATES[which], DASHES[which], 1.5);
  });
  context.textAlign = "center";
  context.fillStyle = colour;
  if (step >= 6) {
    for (let place = first; place < last; place += 1) {
      context.fillText(shown(side().tokens[place]).trim().slice(0, Math.max(1, Math.floor(step / 7))), across(place), height - 9);
    }
  }
  const legend = document.getElementById("legend");
  legend.replaceChildren(key(`${chosen.state}, from −s to s`, "currentColor", "solid"));
  for (const [number, name] of Object.keys(gates || {}).entries()) {
    const style = ["solid", "dashed", "dotted"][Math.min(number, 2)];
    legend.append(key(`gate ${name}, from 0 to 1`, GATES[number % GATES.length], style));
  }
  if (!gates && Object.keys(layer().saturation).length) {
    const units = layer().gateUnits.join(", ") || "none";
    legend.append(`This page holds the gates of these units of the layer: ${units}. --units chooses others.`);
  }
}

function key(text, colour, style) {
  const mark = element("i", { class: "key" });
  mark.style.borderTopColor = colour;
  mark.style.borderTopStyle = style;
  return element("span", {}, mark, text);
}

/** The state of every unit near the chosen token. */
function drawHeat(numbers) {
  const canvas = document.getElementById("heat");
  const units = layer().units;
  const row = Math.max(1, Math.min(12, Math.floor(420 / units)));
  const { context, width, height } = cleared(canvas, units * row);
  const [first, last] = shownSteps(width);
  const image = context.createImageData(last - first, units);
  for (let unit = 0, at = 0; unit < units; unit += 1) {
    for (let place = first; place < last; place += 1, at += 4) {
      const number = numbers[unit * steps() + place];
      const colour = number < 0 ? BELOW : ABOVE;
      image.data[at] = colour[0];
      image.data[at + 1] = colour[1];
      image.data[at + 2] = colour[2];
      image.data[at + 3] = Math.abs(number) * 2;
    }
  }
  const plain = document.createElement("canvas");
  plain.width = image.width;
  plain.height = image.height;
  plain.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(plain, 0, 0, width, height);
  const step = width / (last - first);
  context.lineWidth = 1.5;
  context.strokeRect((chosen.token - first) * step, 0, step, height);
  context.strokeRect(0, chosen.unit * row - 1, width, row + 2);
}

/** The unit and token under the pointer in the picture of all units. */
function underPointer(event) {
  const canvas = document.getElementById("heat");
  const [first, last] = shownSteps(canvas.clientWidth);
  const token = first + Math.floor((event.offsetX / canvas.clientWidth) * (last - first));
  const unit = Math.floor((event.offsetY / canvas.clientHeight) * layer().units);
  return { unit: Math.min(Math.max(unit, 0), layer().units - 1), token: Math.min(Math.max(token, first), last - 1) };
}

/** A plot for each gate of the layer: how often each unit is nearly closed and nearly open. */
function drawSaturation(pick) {
  const gates = Object.entries(layer().saturation);
  const plots = document.getElementById("plots");
  plots.replaceChildren();
  for (const [name, [closed, open]] of gates) {
    const canvas = element("canvas", { role: "img", "aria-label": `Saturation of gate ${name}; a table follows` });
    plots.append(element("figure", {}, canvas, element("figcaption", {}, `gate ${name}`)));
    const { context, width } = cleared(canvas, PLOT);
    const across = (share) => 28 + share * (width - 40);
    const up = (share) => PLOT - 24 - share * (PLOT - 36);
    context.globalAlpha = 0.4;
    context.strokeRect(across(0), up(1), across(1) - across(0), up(0) - up(1));
    context.globalAlpha = 0.9;
    context.fillText("0", 16, PLOT - 24);
    context.fillText("1", 16, 18);
    context.fillText("below 0.1: 0 to 1", 30, PLOT - 8);
    context.save();
    context.translate(11, PLOT - 40);
    context.rotate(-Math.PI / 2);
    context.fillText("above 0.9", 0, 0);
    context.restore();
    closed.forEach((share, unit) => {
      const own = unit === chosen.unit;
      context.globalAlpha = own ? 1 : 0.55;
      context.fillStyle = own ? "rgb(230,130,20)" : "rgb(50,110,220)";
      context.beginPath();
      context.arc(across(share), up(open[unit]), own ? 5 : 2.5, 0, 2 * Math.PI);
      context.fill();
    });
    canvas.addEventListener("click", (event) => {
      const distance = (unit) => Math.hypot(across(closed[unit]) - event.offsetX, up(open[unit]) - event.offsetY);
      pick(closed.reduce((best, _, unit) => (distance(unit) < distance(best) ? unit : best), 0));
    });
  }
  const mean = (values) => (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(3);
  const rows = gates.map(([name, shares]) => [
    name, ...shares.map(mean), ...shares.map((values) => values[chosen.unit].toFixed(3)),
  ]);
  const heads = ["gate", ...CLOSED_OPEN.map((word) => `layer, ${word}`), ...CLOSED_OPEN.map((word) => `unit, ${word}`)];
  const whole = rows.length ? [element("div", {}, table(heads, rows))] : ["This layer has no gates."];
  document.getElementById("saturation").replaceChildren(...whole);
}

/** A table of texts and elements; columns but the first hold numbers. */
function table(heads, rows) {
  const cell = (name) => (value, place) => element(name, place ? { class: "number" } : {}, value);
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...heads.map(cell("th")))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td"))))),
  );
}
