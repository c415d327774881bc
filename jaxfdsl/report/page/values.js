// Shows the values under the mouse or a finger in a chart's legend, and the step beside its title.
for (const figure of document.querySelectorAll(".chart")) {
  const svg = figure.querySelector("svg"), at = figure.querySelector(".at");
  const cursor = svg.querySelector(".cursor");
  const [x0, x1, left, right] = svg.dataset.x.split(" ").map(Number);
  const [y0, y1, bottom, top] = svg.dataset.y.split(" ").map(Number);
  const lines = [...svg.querySelectorAll(".line")].map((path) =>
    path.getAttribute("d").slice(1).split("L").map((place) => place.split(" ").map(Number)));
  const cells = [...figure.querySelectorAll(".legend data")];
  const last = cells.map((cell) => cell.textContent);
  const shown = (value) => figure.dataset.share
    ? (100 * value).toFixed(1) + "%"
    : Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
  const move = (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const near = lines.map((line) =>
      line.reduce((one, two) => Math.abs(one[0] - x) > Math.abs(two[0] - x) ? two : one));
    const [place] = near.reduce((one, two) => Math.abs(one[0] - x) > Math.abs(two[0] - x) ? two : one);
    near.forEach(([, y], i) => {
      cells[i].textContent = shown(y0 + (y - bottom) / (top - bottom) * (y1 - y0));
    });
    const step = x0 + (place - left) / (right - left) * (x1 - x0);
    at.textContent = svg.dataset.across + " " + Math.round(step).toLocaleString("en");
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    svg.classList.add("touched");
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", () => {
    cells.forEach((cell, i) => { cell.textContent = last[i]; });
    at.textContent = "";
    svg.classList.remove("touched");
  });
}
