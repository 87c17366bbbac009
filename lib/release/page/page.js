"use strict";
// What the page of the server and the page in one file share. Each adds `answer(file)`, a promise of what `show` takes, and
// `drawing(label)`, the address of the artwork of a class.
const byId = (id) => document.getElementById(id);
let latest = 0; // an answer that a later image has overtaken is not shown

async function ask(file) {
  const number = ++latest;
  if (byId("given").src) URL.revokeObjectURL(byId("given").src);
  byId("given").src = URL.createObjectURL(file);
  byId("shown").hidden = false;
  byId("answers").replaceChildren();
  byId("status").textContent = "…";
  const found = await answer(file);
  if (number === latest) show(found);
}

function show({ error, sign = true, top = [], notes = [], model }) {
  byId("status").textContent = error || [sign ? top[0].label : "no sign", ...notes].join("; ");
  byId("shown").hidden = Boolean(error);
  byId("answers").replaceChildren(...top.map(row));
  if (model) byId("model").textContent = model;
}

function row(found) {
  const item = document.createElement("li");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.onerror = () => { picture.style.visibility = "hidden"; }; // a class of another data set has no drawing
  picture.src = drawing(found.label);
  const name = document.createElement("span");
  const bar = document.createElement("progress");
  bar.value = found.probability;
  bar.setAttribute("aria-label", `probability of ${found.label}`);
  name.append(found.label, bar);
  const share = document.createElement("span");
  share.textContent = `${(100 * found.probability).toFixed(1)} %`;
  item.append(picture, name, share);
  return item;
}

const first = (files) => { if (files && files.length) ask(files[0]); };
for (const id of ["file", "photo"]) {
  byId(id).addEventListener("change", (event) => { first(event.target.files); event.target.value = ""; });
}
byId("given").addEventListener("error", () => { byId("shown").hidden = true; }); // not of a format that browsers show
document.addEventListener("paste", (event) => first(event.clipboardData.files));
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  first(event.dataTransfer.files);
});
