"use strict";
const byId = (id) => document.getElementById(id);
let latest = 0; // an answer that a later image has overtaken is not shown

async function ask(file) {
  const number = ++latest;
  if (byId("given").src) URL.revokeObjectURL(byId("given").src);
  byId("given").src = URL.createObjectURL(file);
  byId("shown").hidden = false;
  byId("answers").replaceChildren();
  byId("status").textContent = "…";
  let answer;
  try {
    const body = new FormData();
    body.append("image", file, file.name || "image");
    answer = await (await fetch("predict", { method: "POST", body })).json();
  } catch {
    answer = { error: "the server does not answer" };
  }
  if (number === latest) show(answer);
}

function show(answer) {
  if (answer.error) {
    byId("status").textContent = answer.error;
    return;
  }
  const [result] = answer.results;
  byId("status").textContent = [result.sign ? result.top[0].label : "no sign", ...result.notes].join("; ");
  byId("answers").replaceChildren(...result.top.map(row));
  byId("model").textContent = `release ${answer.model.version}, digest ${answer.model.digest}`;
}

function row(found) {
  const item = document.createElement("li");
  const drawing = document.createElement("img");
  drawing.alt = "";
  drawing.onerror = () => { drawing.style.visibility = "hidden"; }; // a class of another data set has no drawing
  drawing.src = `artwork/${encodeURIComponent(found.label)}`;
  const name = document.createElement("span");
  const bar = document.createElement("progress");
  bar.value = found.probability;
  bar.setAttribute("aria-label", `probability of ${found.label}`);
  name.append(found.label, bar);
  const share = document.createElement("span");
  share.textContent = `${(100 * found.probability).toFixed(1)} %`;
  item.append(drawing, name, share);
  return item;
}

const first = (files) => { if (files && files.length) ask(files[0]); };
for (const id of ["file", "photo"]) {
  byId(id).addEventListener("change", (event) => { first(event.target.files); event.target.value = ""; });
}
document.addEventListener("paste", (event) => first(event.clipboardData.files));
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  first(event.dataTransfer.files);
});
