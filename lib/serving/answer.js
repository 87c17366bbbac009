"use strict";
// The server answers.
const drawing = (label) => `artwork/${encodeURIComponent(label)}`;

async function answer(file) {
  try {
    const body = new FormData();
    body.append("image", file, file.name || "image");
    const { error, results, model } = await (await fetch("predict", { method: "POST", body })).json();
    return error ? { error } : { ...results[0], model: `release ${model.version}, digest ${model.digest}` };
  } catch {
    return { error: "the server does not answer" };
  }
}
