"use strict";

// What all pages share: elements, text that cannot steer the page, colours, and walking through words by keyboard.

const data = JSON.parse(document.getElementById("data").textContent);

/** An element with attributes and children; strings become text and never HTML. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A text with control characters made visible, those of the direction of writing among them; half surrogates go. */
function shown(text) {
  const whole = text.replace(/\p{Surrogate}/gu, "\ufffd");
  return whole.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (character) => {
    if (character === "\n") return "↵\n";
    if (character === "\t") return "→";
    if (character === "\r") return "";
    return `[${character.codePointAt(0).toString(16).padStart(4, "0")}]`;
  });
}

/** A text on one line, as a sentence names it. */
function quoted(text) {
  return text === " " ? "space" : `“${shown(text).replace(/\n/g, "")}”`;
}

// Orange and blue, which people who do not tell red from green can tell apart.
const ABOVE = [230, 130, 20];
const BELOW = [50, 110, 220];

/** The ground of a number between -1 and 1, which is transparent at 0. */
function ground(value) {
  const [red, green, blue] = value < 0 ? BELOW : ABOVE;
  return `rgba(${red},${green},${blue},${Math.min(Math.abs(value), 1) * 0.85})`;
}

/** A canvas as sharp as the screen, cleared; its context counts in pixels of CSS. */
function cleared(canvas, height) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth || 300;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = context.strokeStyle = getComputedStyle(document.body).color;
  context.font = "12px system-ui, sans-serif";
  return { context, width, height };
}

/** Numbers of 8 bits out of base64. */
function bytes(text) {
  const characters = atob(text);
  const found = new Uint8Array(characters.length);
  for (let place = 0; place < found.length; place += 1) found[place] = characters.charCodeAt(place);
  return found;
}

/**
 * Lets people walk through items by pointer, and by the arrow keys where the group has the focus.
 * `all()` gives the items, and `current()` the number of the present one.
 * `move(place, extend)` is called with the number of an item, and whether Shift or a drag reaches from where it began.
 */
function walk(group, all, current, move) {
  const placeOf = (event) => {
    const target = event.target.closest("[data-place]");
    return target && group.contains(target) ? Number(target.dataset.place) : null;
  };
  group.tabIndex = 0;
  group.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -20, ArrowDown: 20, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const place = Math.min(Math.max(current() + steps[event.key], 0), all().length - 1);
    move(place, event.shiftKey);
    all()[place].scrollIntoView({ block: "nearest" });
  });
  group.addEventListener("pointerover", (event) => {
    const place = placeOf(event);
    if (place !== null) move(place, event.buttons === 1);
  });
  group.addEventListener("pointerdown", (event) => {
    const place = placeOf(event);
    if (place !== null) move(place, event.shiftKey);
  });
}
