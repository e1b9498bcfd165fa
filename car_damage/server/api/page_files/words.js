/* A person's word about a photo: the buttons for it, and the name of who says it. */

import { review, signedInAs } from "./endpoint.js";

/** What may be said besides a class: the word, its text, and its key. */
export const OTHERS = [
  ["not_a_car", "not a car", "n"],
  ["cannot_tell", "cannot tell", "c"],
  ["undone", "undo", "u"],
];

const form = document.getElementById("who");
const input = document.getElementById("name");
let waiting = [];

/** The name of who uses this browser. It is asked once, and kept. */
export const reviewer = {
  get() {
    if (signedInAs) return signedInAs;
    try {
      return localStorage.getItem("reviewer") ?? this.kept;
    } catch {
      return this.kept;
    }
  },
  set(name) {
    this.kept = name;
    try {
      localStorage.setItem("reviewer", name);
    } catch {
      // This browser stores nothing, so the name is asked again when the page is loaded again.
    }
  },
  kept: null,
};

/** Ask for the name. Resolves to it. */
export function askForName() {
  form.hidden = false;
  input.value = reviewer.get() ?? "";
  input.focus();
  return new Promise((resolve) => waiting.push(resolve));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = input.value.trim().replace(/\s+/g, " ");
  if (!name) return;
  reviewer.set(name);
  form.hidden = true;
  for (const resolve of waiting) resolve(name);
  waiting = [];
});

/** Send a word, after the name is known. Resolves to what was said about the photo, in the order of time. */
export async function say(word) {
  const by = reviewer.get() ?? (await askForName());
  return (await review({ ...word, by })).history;
}

/** Fill an element with a button for each word; `chosen(word)` is called with the one that is pressed. */
export function offer(element, classes, keys, chosen) {
  const words = [...classes.map((name, at) => [name, name, String(at + 1)]), ...OTHERS];
  element.replaceChildren(
    ...words.map(([word, text, shortcut]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.word = word;
      button.textContent = text;
      if (keys) {
        const sign = document.createElement("kbd");
        sign.textContent = shortcut;
        button.setAttribute("aria-keyshortcuts", shortcut);
        button.append(" ", sign);
      }
      button.addEventListener("click", () => chosen(word));
      return button;
    }),
  );
}

/** What was said, as a sentence for people. */
export function spoken(history) {
  return history
    .map(({ label, by, said, counts }) => {
      const text = OTHERS.find(([word]) => word === label)?.[1] ?? label;
      return `${text}, ${by}, ${new Date(said).toLocaleString()}${counts ? " (counts)" : ""}`;
    })
    .join("; ");
}
