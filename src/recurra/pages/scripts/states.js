// What is shown of the states: the choice of text, layer, state, unit and token, and the numbers that belong to it.

const NEAREST = 10;
const chosen = { side: 0, layer: 0, state: "", unit: 0, token: 0, from: 0, to: 0, ...data.first };
const unpacked = new WeakMap();

/** The numbers of 8 bits that `holder` has under a name, compressed with zlib and written in base64. */
async function unpack(holder, name) {
  if (!unpacked.has(holder)) unpacked.set(holder, {});
  const known = unpacked.get(holder);
  if (!(name in known)) {
    const stream = new Blob([bytes(holder[name])]).stream().pipeThrough(new DecompressionStream("deflate"));
    known[name] = new Response(stream).arrayBuffer();
  }
  return known[name];
}

const side = () => data.sides[chosen.side];
const layer = () => side().layers[chosen.layer];
const steps = () => side().tokens.length;

/** The numbers of the chosen state, those of a unit one after another, and the scale of each unit. */
async function numbersOf(found, state) {
  const packed = found.states[state];
  return { numbers: new Int8Array(await unpack(packed, "bytes")), scales: packed.scales };
}

/** The gates of a unit by name; null if the page does not hold them. */
async function gatesOf(found, unit, count) {
  const column = found.gateUnits.indexOf(unit);
  if (column < 0) return null;
  const gates = {};
  for (const name of Object.keys(found.gates)) {
    gates[name] = new Uint8Array(await unpack(found.gates, name)).subarray(column * count, (column + 1) * count);
  }
  return gates;
}

/**
 * Other places where the units are on that are on throughout a span; see recurra.analysis.contexts.
 * Returns the units, and places with their share of these units, the most alike first.
 */
function nearestContexts(numbers, count, units, from, to, threshold) {
  const bound = threshold * 127;
  const signOf = (number) => (number >= bound ? 1 : number <= -bound ? -1 : 0);
  const length = to - from;
  const on = [];
  for (let unit = 0; unit < units; unit += 1) {
    const sign = signOf(numbers[unit * count + from]);
    let throughout = sign !== 0;
    for (let step = from; throughout && step < to; step += 1) throughout = signOf(numbers[unit * count + step]) === sign;
    if (throughout) on.push([unit, sign]);
  }
  const hits = new Array(Math.max(count - length + 1, 0)).fill(0);
  for (const [unit, sign] of on) {
    let run = 0;
    for (let step = 0; step < count; step += 1) {
      run = signOf(numbers[unit * count + step]) === sign ? run + 1 : 0;
      if (run >= length) hits[step - length + 1] += 1;
    }
  }
  const order = hits.map((_, place) => place).sort((one, two) => hits[two] - hits[one] || one - two);
  const taken = new Uint8Array(count).fill(1, from, to);
  const places = [];
  for (const place of order) {
    if (places.length === NEAREST || hits[place] === 0) break;
    if (taken.subarray(place, place + length).some((value) => value)) continue;
    taken.fill(1, place, place + length);
    places.push({ from: place, to: place + length, share: hits[place] / on.length });
  }
  return { units: on.map(([unit]) => unit), places };
}

/** The choice as the part of the address after #, by which a page can be kept and shared. */
function address() {
  return Object.entries(chosen).map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
}

/** Takes over a choice, each part of it brought within what there is. */
function choose(wanted) {
  const whole = (value, most) => Math.min(Math.max(Math.trunc(Number(value)) || 0, 0), Math.max(most, 0));
  const next = { ...chosen, ...wanted };
  const elsewhere = Number(next.side) !== chosen.side;
  chosen.side = whole(next.side, data.sides.length - 1);
  chosen.layer = whole(next.layer, side().layers.length - 1);
  const states = Object.keys(layer().states);
  chosen.state = states.includes(next.state) ? next.state : states[states.length - 1];
  chosen.unit = whole(next.unit, layer().units - 1);
  chosen.token = whole(next.token, steps() - 1);
  chosen.from = whole(elsewhere && !("from" in wanted) ? 0 : next.from, steps());
  chosen.to = whole(elsewhere && !("to" in wanted) ? 0 : next.to, steps());
}

/** The choice that an address names. */
function fromAddress() {
  return Object.fromEntries(new URLSearchParams(window.location.hash.slice(1)));
}
