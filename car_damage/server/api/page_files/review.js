/*
 * The second view: photos that wait for a person, one after another: answers that ask for a person, then labels that look wrong, of each
 * the largest doubt first.
 */

import { Card } from "./card.js";
import { desk, keptPhoto, signedInAs } from "./endpoint.js";
import { OTHERS, askForName, offer, reviewer, say, spoken } from "./words.js";

/** Milliseconds between two looks at an empty desk. */
const LOOK_EVERY = 15_000;

const part = (id) => document.getElementById(id);
let found = null;
let current = null;
let last = null;
let busy = false;
/** Counts the times that the view was opened or closed: what was asked before says nothing any more. */
let view = 0;
let timer = null;
let failed = () => {};
let explain = null;
/** SHA-256 of the photos that could not be shown. They stay on the desk, and the others go on. */
const passed = new Set();

/** Show the view. `problem` is called with a refusal that a person has to see, and `why` with a card that is to show its map. */
export function open(problem, why) {
  view += 1;
  failed = problem;
  explain = why;
  passed.clear();
  return refresh();
}

export function close() {
  view += 1;
  clearTimeout(timer);
  current?.card.remove();
  current = null;
}

async function refresh() {
  clearTimeout(timer);
  const opened = view;
  try {
    const there = await desk();
    if (opened !== view) return;
    found = there;
  } catch (error) {
    if (opened !== view) return;
    tell(error.message);
    failed(error);
    return;
  }
  await showNext();
}

async function showNext() {
  current?.card.remove();
  current = null;
  const waiting = found.waiting.filter(({ sha256 }) => !passed.has(sha256));
  const one = waiting[0];
  part("count").textContent = one ? counted(waiting) : nothing();
  showSigned();
  if (!one) {
    clearTimeout(timer);
    timer = setTimeout(refresh, LOOK_EVERY);
    return;
  }
  const opened = view;
  try {
    const photo = await keptPhoto(one.sha256);
    if (opened !== view) return;
    const file = new File([photo], `${one.sha256.slice(0, 12)} (beginning of its SHA-256)`, { type: "" });
    const card = new Card(file, refresh, explain, () => keptPhoto(one.sha256, "picture"));
    current = { one, card };
    const probabilities = found.classes.filter((name) => name in one.probabilities).map((name) => [name, one.probabilities[name]]);
    const { label, labelled, asked, classes } = one;
    card.answered({ label, probabilities, servedBy: one.served_by, asked, classes, review: !labelled, labelled });
    card.offers((element) => offer(element, found.classes, true, word));
    card.part(".correct").open = true;
    card.said(spoken(one.history));
    part("current").replaceChildren(card.element);
  } catch (error) {
    if (opened !== view) return;
    passed.add(one.sha256);
    tell(error.message);
    failed(error);
    if (!error.token) await showNext();
  }
}

function counted(waiting) {
  const labels = waiting.filter(({ labelled }) => labelled).length;
  const told = [[waiting.length - labels, "answer", "asks", "ask"], [labels, "label", "looks", "look"]]
    .filter(([number]) => number)
    .map(([number, what, one, many]) => `${number} ${what}${number === 1 ? "" : "s"} ${number === 1 ? one : many} ${what === "label" ? "wrong" : "for a person"}`);
  return `${told.join(", ")}. Largest doubt first.`;
}

async function word(label) {
  if (busy || !current) return;
  if (label === "undone") return undo();
  busy = true;
  try {
    const { one } = current;
    await say({ sha256: one.sha256, label });
    last = { sha256: one.sha256, label };
    found.waiting = found.waiting.filter(({ sha256 }) => sha256 !== one.sha256);
    tell(`${text(label)} is noted.`, true);
    if (!part("reviewing").hidden) await showNext();
  } catch (error) {
    tell(error.message);
    failed(error);
  } finally {
    busy = false;
  }
}

/** Take back the word that was said last, and show its photo again. */
async function undo() {
  if (busy || !last) return;
  busy = true;
  try {
    await say({ sha256: last.sha256, label: "undone" });
    tell(`${text(last.label)} was taken back.`);
    last = null;
    if (!part("reviewing").hidden) await refresh();
  } catch (error) {
    tell(error.message);
    failed(error);
  } finally {
    busy = false;
  }
}

function text(label) {
  return OTHERS.find(([word_]) => word_ === label)?.[1] ?? label;
}

function nothing() {
  if (!found.keeps) return "This server keeps no photos for review: name a folder for them with the setting answers.keep_for_review.";
  return "No photo waits. Photos come here when their answers ask for a person, or when their label looks wrong after a training.";
}

function tell(words, undoable = false) {
  part("lately").textContent = words;
  part("undo").hidden = !undoable;
}

function showSigned() {
  const name = reviewer.get();
  part("signed").textContent = name ? `You say it as ${name}.` : "";
  part("rename").hidden = !name || Boolean(signedInAs);
}

part("undo").addEventListener("click", undo);
part("rename").addEventListener("click", () => askForName().then(showSigned));
addEventListener("keydown", (event) => {
  // A key that is held would say the same of photos that nobody has seen.
  if (event.repeat || part("reviewing").hidden || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  const shortcut = event.key.toLowerCase();
  if (shortcut === "m" && current && !current.card.part(".why").hidden) current.card.part(".why").click();
  const label = OTHERS.find(([, , own]) => own === shortcut)?.[0] ?? found?.classes[Number(shortcut) - 1];
  if (!label) return;
  event.preventDefault(); // or the key would be typed into the field for the name
  if (label === "undone") undo();
  else word(label);
});
