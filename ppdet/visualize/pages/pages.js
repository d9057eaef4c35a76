"use strict";

// A picture is shown if one of its tags, [class, kind, score], passes all filters of its gallery.
function passes([name, kind, score], chosen) {
  return (chosen.class === "" || String(name) === chosen.class) && (chosen.kind === "" || String(kind) === chosen.kind)
    && (score === null ? chosen.least <= 0 && chosen.most >= 1 : score >= chosen.least && score <= chosen.most);
}

function filter(gallery) {
  const value = (role, otherwise) => gallery.querySelector(`[data-role="${role}"]`)?.value ?? otherwise;
  const number = (role, otherwise) => { const text = value(role, ""); return text === "" ? otherwise : Number(text); };
  const chosen = { class: value("class", ""), kind: value("kind", ""), least: number("least", -Infinity), most: number("most", Infinity) };
  const all = chosen.class === "" && chosen.kind === "" && chosen.least <= 0 && chosen.most >= 1;
  const cards = [...gallery.querySelectorAll("li")];
  for (const card of cards) card.hidden = !all && !JSON.parse(card.dataset.tags).some((tag) => passes(tag, chosen));
  const shown = cards.filter((card) => !card.hidden).length;
  gallery.querySelector(".count").textContent = `${shown} of ${cards.length} pictures`;
}

for (const gallery of document.querySelectorAll(".gallery")) {
  const form = gallery.querySelector(".filters");
  if (!form) continue;
  form.addEventListener("input", () => filter(gallery));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(gallery); // a browser keeps what was chosen before a page is loaded again
}

// A click on a picture shows it as large as the window; the next one, or Escape, closes it.
const dialog = document.createElement("dialog");
dialog.addEventListener("click", () => dialog.close());
document.body.append(dialog);
document.addEventListener("click", (event) => {
  const button = event.target.closest(".panels");
  if (!button || dialog.contains(button)) return;
  dialog.replaceChildren(button.cloneNode(true), button.nextElementSibling.cloneNode(true));
  dialog.showModal();
});
