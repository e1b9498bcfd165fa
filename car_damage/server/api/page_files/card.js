/* One photo on the page, with its prediction or its problem. All text is inserted as text, never as HTML. */

import { draw } from "./map.js";

const template = document.getElementById("card");

export class Card {
  /**
   * `again` and `why` are called with this card when "Try again" and "Where was it seen?" are pressed; without `why` there is no such button.
   * `picture` resolves to another file of the photo, for a browser that cannot show this one.
   */
  constructor(file, again, why = null, picture = null) {
    this.file = file;
    this.picture = picture;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.part = (selector) => this.element.querySelector(selector);
    this.part(".file").textContent = `${file.name}, ${megabytes(file.size)}`;
    this.part(".again").addEventListener("click", () => again(this));
    this.part(".again").setAttribute("aria-label", `Try again: ${file.name}`);
    this.why = why;
    this.part(".why").addEventListener("click", () => why(this));
    this.part(".why").setAttribute("aria-label", `Where was it seen? ${file.name}`);
    this.#preview();
    this.waits("Waiting for its turn.");
  }

  waits(words) {
    this.#show("waiting", "Waiting", words);
  }

  /**
   * Show a prediction: { label, probabilities: [[class, probability], ...], classes, review, servedBy }, and milliseconds, or asked (a
   * time). With `labelled`, a training doubts this label of the photo.
   */
  answered({ label, probabilities, classes, review, servedBy, milliseconds, asked, labelled }) {
    const when = asked ? `on ${new Date(asked).toLocaleString()}` : `in\u00a0${Math.round(milliseconds)}\u00a0ms`;
    if (labelled) this.#show("answered", "Is this label right?", `Its label is ${labelled}. A model that has not learned from it said ${label} ${when}.`);
    else this.#show("answered", label, `Answered by ${servedBy} ${when}`);
    this.part(".bars").replaceChildren(...probabilities.map(([name, probability]) => row(name, probability, name === label)));
    this.part(".bars").hidden = false;
    this.part(".review").textContent = review ? forAPerson(classes) : "";
    this.part(".review").hidden = !review;
    this.part(".why").hidden = !this.why;
  }

  /** Show where an answer has seen the damage: { label, servedBy, map }, with null for the map if the model cannot say. */
  async explained({ label, servedBy, map }) {
    this.part(".why").hidden = true;
    if (!map) {
      this.part(".facts").textContent = "This version cannot say where it sees damage: it was registered by an earlier release.";
      return;
    }
    this.part("canvas").setAttribute("aria-label", `Where the damage was seen in ${this.file.name}`);
    this.part("figcaption").textContent = `The redder a place, the more it speaks for ${label} damage or worse, says ${servedBy}.`;
    await draw(this.part("canvas"), this.url, map);
    this.part(".map").hidden = false;
  }

  /** Show the buttons with which a person says what the photo shows; `fill` makes them. */
  offers(fill) {
    fill(this.part(".say"));
    this.part(".correct").hidden = false;
  }

  /** Show what people have said. */
  said(words) {
    this.part(".said").textContent = words;
    this.part(".said").hidden = !words;
  }

  /** Show why there is no prediction. `refusal` also says whether trying again can help. */
  failed(refusal) {
    this.refusal = refusal;
    this.#show("failed", "No answer", "");
    this.part(".problem").textContent = refusal.message;
    this.part(".problem").hidden = false;
    this.part(".again").hidden = refusal.final;
  }

  get waiting() {
    return this.element.dataset.state === "waiting";
  }

  remove() {
    URL.revokeObjectURL(this.url);
    this.element.remove();
  }

  #show(state, title, words) {
    this.element.dataset.state = state;
    this.part("h3").textContent = title;
    this.part(".facts").textContent = words;
    for (const selector of [".problem", ".review", ".bars", ".why", ".map", ".again", ".correct", ".said"]) this.part(selector).hidden = true;
  }

  #preview() {
    const image = this.part("img");
    image.alt = `Thumbnail of ${this.file.name}`;
    image.addEventListener("error", () => this.#instead(image));
    this.#load(image, this.file);
  }

  #load(image, file) {
    URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(file);
    image.src = this.url;
  }

  async #instead(image) {
    const { picture } = this;
    this.picture = null; // it is asked for once
    const other = await picture?.().catch(() => null);
    if (other && this.element.isConnected) this.#load(image, other);
    else image.replaceWith("No preview");
  }
}

/** Why a person must look. */
export function forAPerson(classes) {
  return `A person must look: ${classes?.length ? `it may be ${classes.join(" or ")}` : "the model is less sure than of photos of any class"}.`;
}

/** A probability as text. Values close to 0 % or 100 % are not rounded to them. */
export function percent(probability) {
  if (probability > 0 && probability < 0.001) return "< 0.1 %";
  if (probability < 1 && probability > 0.999) return "> 99.9 %";
  return `${(probability * 100).toFixed(1)} %`;
}

export function megabytes(bytes, round = Math.ceil) {
  return bytes < 1_000_000 ? `${round(bytes / 1000)} kB` : `${round(bytes / 100_000) / 10} MB`;
}

function row(name, probability, best) {
  const [group, term, track, fill, number] = ["div", "dt", "dd", "span", "dd"].map((tag) => document.createElement(tag));
  term.textContent = name;
  track.className = "track";
  // Screen readers read the number instead.
  track.setAttribute("aria-hidden", "true");
  fill.style.width = `${probability * 100}%`;
  track.append(fill);
  number.textContent = percent(probability);
  group.classList.toggle("best", best);
  group.append(term, track, number);
  return group;
}
