/* The page: takes photos, requests predictions for them, and shows the state of the endpoint. */

import { Card, forAPerson, megabytes, percent } from "./card.js";
import * as reviewing from "./review.js";
import { offer, say, spoken } from "./words.js";
import { NOTHING_LIVE, Refusal, ask, describe, key, look, requestBytes } from "./endpoint.js";

const AT_ONCE = 2;
/** Milliseconds between two checks of the endpoint. They double after each failure, up to the longest. */
const CHECK_EVERY = 5_000;
const CHECK_LONGEST = 60_000;
const NEWS_KEPT = 10;

const limit = Number(document.querySelector("meta[name=max-request-bytes]").content);
const part = (id) => document.getElementById(id);
const cards = new Set();
const queue = [];
let asking = 0;
let chosen = null;
let checking = null;
let pause = CHECK_EVERY;
let timer = null;

function take(files) {
  const added = [...files].map((file) => new Card(file, enqueue, explain));
  part("answers").prepend(...added.map((card) => card.element));
  for (const card of added) {
    cards.add(card);
    enqueue(card);
  }
  showCount();
}

function enqueue(card) {
  card.waits("Waiting for its turn.");
  queue.push(card);
  work();
}

function work() {
  while (asking < AT_ONCE && queue.length) {
    asking += 1;
    predict(queue.shift()).finally(() => {
      asking -= 1;
      showCount();
      work();
      refresh();
    });
  }
}

async function predict(card) {
  try {
    const bytes = requestBytes(card.file.size);
    if (bytes > limit) {
      const most = megabytes(Math.floor((limit - requestBytes(0)) / 4) * 3, Math.floor);
      throw new Refusal(`This file is too large: at most ${most} can be sent. Send a smaller photo.`, { final: true });
    }
    card.waits("Waiting for the prediction …");
    const refusal = chosen ? null : await refresh();
    if (refusal) throw refusal;
    if (!chosen) throw new Refusal(NOTHING_LIVE);
    const prediction = await ask(chosen, await base64(card.file), (words) => card.waits(words));
    showAnswer(card, prediction);
    const best = prediction.probabilities.find(([name]) => name === prediction.label);
    const person = prediction.review ? `. ${forAPerson(prediction.classes)}` : "";
    announce(`${card.file.name}: ${prediction.label}${best ? `, ${percent(best[1])}` : ""}${person}`);
  } catch (error) {
    const refusal = error instanceof Refusal ? error : new Refusal(`This page failed: ${error}`);
    card.failed(refusal);
    announce(`${card.file.name}: no answer. ${refusal.message}`);
    if (refusal.token) askForToken(refusal.message);
  }
}

function showAnswer(card, prediction) {
  card.answered(prediction);
  card.offers((element) => offer(element, prediction.probabilities.map(([name]) => name), false, (label) => correct(card, prediction, label)));
}

/** Ask again, with a map. The answer on the card stays until there is one; `answered` shows the new one. */
async function explain(card, answered = showAnswer) {
  const button = card.part(".why");
  button.disabled = true;
  try {
    const prediction = await ask(chosen, await base64(card.file), announce, true);
    answered(card, prediction); // another version may have answered
    await card.explained(prediction);
  } catch (error) {
    announce(`${card.file.name}: ${error.message}`);
    card.part(".facts").textContent = error.message;
    if (error.token) askForToken(error.message);
  } finally {
    button.disabled = false;
  }
}

/** Send a person's word about an answer, with the photo, which the server does not have. */
async function correct(card, prediction, label) {
  card.said("Sending …");
  try {
    const word = { label, image: await base64(card.file), served_by: prediction.servedBy ?? "", answered: prediction.label };
    card.said(spoken(await say(word)));
  } catch (error) {
    card.said(error.message);
    if (error.token) askForToken(error.message);
  }
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.split(",")[1] ?? ""));
    reader.addEventListener("error", () => reject(new Refusal("The browser cannot read this file. It may be a folder, or it was deleted.")));
    reader.readAsDataURL(file);
  });
}

/**
 * Check the endpoint, and schedule the next check while the page is visible and no token is missing. Only one check runs
 * at a time. Resolves to the refusal if the check failed, else to null.
 */
function refresh() {
  checking ??= checkOnce().then((refusal) => {
    checking = null;
    clearTimeout(timer);
    if (document.visibilityState === "visible" && !refusal?.token) timer = setTimeout(refresh, pause);
    return refusal;
  });
  return checking;
}

async function checkOnce() {
  try {
    const { names, endpoint } = await look(chosen);
    chosen = endpoint?.name ?? null;
    showChoice(names);
    part("key").hidden = true;
    pause = CHECK_EVERY;
    showState(describe(endpoint), endpoint?.state.ready === "READY");
    return null;
  } catch (error) {
    pause = Math.min(pause * 2, CHECK_LONGEST);
    showState(error.token ? "Waiting for the token." : error.message, false);
    if (error.token) askForToken(error.message);
    return error;
  }
}

function showChoice(names) {
  const options = part("endpoints");
  // Replacing the options closes the list if it is open, so they are replaced only if they differ.
  if ([...options].map(({ value }) => value).join() !== names.join()) options.replaceChildren(...names.map((name) => new Option(name)));
  options.value = chosen;
  part("choice").hidden = names.length < 2;
}

function showState(words, ready) {
  part("state").dataset.ready = ready;
  // A screen reader would read the same words again.
  if (part("state").textContent !== words) part("state").textContent = words;
}

function showCount() {
  part("none").hidden = cards.size > 0;
  part("clear").hidden = ![...cards].some((card) => !card.waiting);
}

function announce(words) {
  const line = document.createElement("p");
  line.textContent = words;
  part("news").append(line);
  while (part("news").childElementCount > NEWS_KEPT) part("news").firstElementChild.remove();
}

function askForToken(why) {
  part("key-why").textContent = why;
  if (!part("key").hidden) return;
  part("key").hidden = false;
  part("token").focus();
}

/** Use a token, and try again with the photos that failed without it. */
async function useToken(token) {
  key.set(token.trim());
  await checking;
  pause = CHECK_EVERY;
  await refresh();
  for (const card of cards) if (!card.waiting && card.refusal?.token) enqueue(card);
  if (!part("reviewing").hidden) show("reviewing");
}

/** Take the token from the link that `car-damage serve` prints, and remove it from the address bar and the history. */
function tokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return false;
  history.replaceState(null, "", location.pathname);
  useToken(token);
  return true;
}

function show(view) {
  for (const name of ["asking", "reviewing"]) {
    part(name).hidden = name !== view;
    if (name === view) part(`to-${name}`).setAttribute("aria-current", "page");
    else part(`to-${name}`).removeAttribute("aria-current");
  }
  if (view === "reviewing") reviewing.open((refusal) => refusal.token && askForToken(refusal.message), (card) => explain(card, () => {}));
  else reviewing.close();
}

part("to-asking").addEventListener("click", () => show("asking"));
part("to-reviewing").addEventListener("click", () => show("reviewing"));
part("photos").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = "";
});
part("endpoints").addEventListener("change", async ({ target }) => {
  const wanted = target.value;
  await checking;
  chosen = wanted;
  refresh();
});
part("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(part("token").value);
  part("token").value = "";
});
part("clear").addEventListener("click", () => {
  for (const card of [...cards].filter((one) => !one.waiting)) {
    card.remove();
    cards.delete(card);
  }
  showCount();
  part("photos").focus();
});
addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  part("drop").classList.add("over");
});
for (const end of ["dragleave", "drop"]) addEventListener(end, () => part("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files);
});
addEventListener("hashchange", tokenFromAddress);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.visibilityState === "visible") refresh();
});

if (!tokenFromAddress()) refresh();
