// Says the number of the token under the pointer, or where the arrow keys are.

for (const group of document.querySelectorAll(".text")) {
  const items = [...group.querySelectorAll("[data-place]")];
  const said = group.nextElementSibling;
  let here = 0;
  if (items.length === 0) continue;
  for (const item of items) item.textContent = shown(item.textContent);
  walk(group, () => items, () => here, (place) => {
    items[here].classList.remove("here");
    here = place;
    items[here].classList.add("here");
    said.textContent = `${quoted(items[here].textContent)} adds ${items[here].title}`;
  });
}
