// Alignments of translations: point at a word of either side to see what it looks at, or what looks at it.

const MOST_SAID = 5;

function pair(found, number) {
  const sides = [found.source, found.target];
  const weights = bytes(found.weights);
  const columns = found.source.length;
  const weight = (side, own, other) => weights[side ? own * columns + other : other * columns + own] / 255;
  const status = element("p", { class: "quiet", role: "status" }, "\u00a0");
  const canvas = element("canvas", { role: "img", "aria-label": "All weights: a row for each target token" });
  const here = [0, 0];
  let active = 1;

  const groups = sides.map((tokens, side) =>
    element(
      "p",
      { class: "words", dir: "auto", role: "group", "aria-label": side ? "Target tokens" : "Source tokens" },
      ...tokens.flatMap((token, place) => [element("span", { "data-place": place }, shown(token)), " "]),
    ),
  );
  const items = groups.map((group) => [...group.querySelectorAll("[data-place]")]);

  canvas.style.maxWidth = `${Math.max(columns * 20, 80)}px`;

  function draw() {
    const rows = found.target.length;
    const cell = Math.max(4, Math.min(20, (canvas.clientWidth || 300) / columns));
    const { context } = cleared(canvas, rows * cell);
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        context.fillStyle = ground(weights[row * columns + column] / 255);
        context.fillRect(column * cell, row * cell, cell, cell);
      }
    }
    context.strokeStyle = getComputedStyle(document.body).color;
    if (active) context.strokeRect(0, here[1] * cell, columns * cell, cell);
    else context.strokeRect(here[0] * cell, 0, cell, rows * cell);
    canvas.dataset.cell = cell;
  }

  function show(side, place) {
    active = side;
    here[side] = place;
    const others = sides[1 - side].map((token, other) => ({ token, other, value: weight(side, place, other) }));
    for (const [number, item] of items[side].entries()) {
      item.classList.toggle("here", number === place);
      item.style.background = "";
    }
    for (const { other, value } of others) {
      items[1 - side][other].classList.remove("here");
      items[1 - side][other].style.background = ground(value);
    }
    const most = others.filter((each) => each.value >= 0.01).sort((one, two) => two.value - one.value);
    const list = most.slice(0, MOST_SAID).map((each) => `${quoted(each.token)} ${each.value.toFixed(2)}`);
    const verb = side ? "looks at" : "is looked at by";
    status.textContent = `${quoted(sides[side][place])} ${verb} ${list.join(", ") || "nothing much"}`;
    draw();
  }

  groups.forEach((group, side) => walk(group, () => items[side], () => here[side], (place) => show(side, place)));
  canvas.addEventListener("pointermove", (event) => {
    const row = Math.floor(event.offsetY / Number(canvas.dataset.cell));
    if (row >= 0 && row < found.target.length) show(1, row);
  });
  window.addEventListener("resize", draw);
  const heading = element("h2", {}, `${found.line}: ${shown(found.translation)}`);
  document.getElementById("pairs").append(
    element("section", { "data-pair": number }, heading, groups[0], groups[1], status, canvas),
  );
  show(1, 0);
}

data.pairs.forEach(pair);
